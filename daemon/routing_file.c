// SPDX-License-Identifier: MIT
#include "daemon/routing_file.h"

#include "base/log.h"
#include "model/config.h"
#include "sched/routing_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct routing_file {
    int fd; // -1: it could not be written
    char *path;
    struct routing_trace_writer writer;
    uint64_t step, records, written;
    size_t n, max;   // of bytes
    uint8_t bytes[]; // [max]
};

#define BYTES_MIN (256u << 10) // a token of V3 is some 60 records of 14 bytes

static void file_stop(struct routing_file *file, int err)
{
    log_warning("%s: %s; routing is traced no further", file->path, strerror(err));
    close(file->fd);
    file->fd = -1;
}

void routing_file_flush(struct routing_file *file)
{
    size_t at = 0;
    while (file->fd >= 0 && at < file->n) {
        ssize_t done = write(file->fd, file->bytes + at, file->n - at);
        if (done > 0)
            at += (size_t)done;
        else if (done == 0 || errno != EINTR)
            file_stop(file, done == 0 ? ENOSPC : errno);
    }
    file->written += at;
    file->n = 0;
}

static int shape_of(const struct model_config *config, struct routing_trace_shape *ret,
                    struct fault *fault)
{
    *ret = (struct routing_trace_shape){.layers = model_config_layers(config),
                                        .experts = config->n_routed_experts,
                                        .k = config->num_experts_per_tok};
    if (!routing_trace_shape_ok(ret))
        return fault_set(fault, EINVAL, "%u experts in %u layers, %u a token, cannot be traced",
                         ret->experts, ret->layers, ret->k);
    return 0;
}

int routing_file_create(const char *path, const struct model_config *config,
                        struct routing_file **ret, struct fault *fault)
{
    struct routing_trace_shape shape;
    int err = shape_of(config, &shape, fault);
    if (err != 0) {
        fault_prefix(fault, "--trace-routing");
        return err;
    }
    size_t record = routing_trace_layer_bytes(&shape, ROUTING_TRACE_ROWS_MAX);
    size_t max = record < BYTES_MIN ? BYTES_MIN : record;
    struct routing_file *file = calloc(1, sizeof(*file) + max);
    char *name = strdup(path);
    if (!file || !name) {
        free(file);
        free(name);
        return fault_set(fault, ENOMEM, "--trace-routing: out of memory");
    }
    file->path = name;
    file->max = max;
    file->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file->fd < 0) {
        err = fault_set(fault, errno, "--trace-routing: %s: %s", path, strerror(errno));
        routing_file_close(&file);
        return err;
    }
    routing_trace_writer_init(&file->writer, &shape, file->bytes); // the shape is good
    file->n = ROUTING_TRACE_HEAD_BYTES;
    *ret = file;
    return 0;
}

void routing_file_step(struct routing_file *file)
{
    file->step++;
}

void routing_file_layer(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows, uint32_t k)
{
    struct routing_file *file = user;
    struct routing_trace_layer record = {.step = file->step, .layer = layer, .rows = rows};
    if (file->fd < 0)
        return;
    if (file->n + routing_trace_layer_bytes(&file->writer.shape, rows) > file->max)
        routing_file_flush(file);
    size_t bytes = 0;
    if (k == file->writer.shape.k && rows <= ROUTING_TRACE_ROWS_MAX)
        bytes = routing_trace_write(&file->writer, &record, ids, file->bytes + file->n);
    if (bytes == 0) // an expert twice: scores that are no numbers
        return;
    file->n += bytes;
    file->records++;
}

void routing_file_close(struct routing_file **file)
{
    struct routing_file *f = *file;
    if (!f)
        return;
    bool good = f->fd >= 0;
    if (good)
        routing_file_flush(f);
    if (f->fd >= 0 && close(f->fd) != 0)
        log_warning("%s: %s", f->path, strerror(errno));
    if (good && f->fd >= 0 && f->written > 0)
        log_info("%s: routing of %llu layers in %llu steps, %llu bytes", f->path,
                 (unsigned long long)f->records, (unsigned long long)f->step,
                 (unsigned long long)f->written);
    free(f->path);
    free(f);
    *file = NULL;
}
