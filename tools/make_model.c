// SPDX-License-Identifier: MIT
// make-model --preset NAME DIR [--seed N] [--mtp]: a checkpoint with random weights in the layout
// of released ones: config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
// shards and their index.  The list of tensors is model/tensors.h's, so that what this writes is
// what the loader wants.  Files appear under their names when they are whole, config.json last;
// whatever ends the run early (no space, Ctrl-C) removes what it wrote.
#include "base/fault.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensors.h"
#include "tools/make_model_preset.h"
#include "tools/make_model_tokenizer.h"
#include "tools/make_model_weights.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SHARD_BYTES_MAX 4300000000ull // as in DeepSeek's own files
#define BUFFER_BYTES    (4u << 20)
#define FILE_NAME_MAX   64u

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
    stopped = sig;
}

// --- what to write -----------------------------------------------------------------------------

// One tensor of a file.
struct item {
    char name[TENSOR_NAME_MAX]; // in the file
    struct tensor_spec spec;    // its name seeds the values: a copy has the original's
    bool scale;                 // the block scales of spec, not spec itself
    enum dtype dtype;
    uint32_t rank;
    uint32_t shape[2];
    uint64_t bytes;
    uint32_t shard;
};

struct items {
    const struct model_config *config;
    struct item *list;
    size_t n, cap;
    uint64_t bytes;
    uint32_t shards;
};

static struct item *items_push(struct items *items)
{
    if (items->n == items->cap) {
        size_t cap = items->cap ? 2 * items->cap : 1024;
        struct item *list = realloc(items->list, cap * sizeof(*list));
        if (!list)
            return NULL;
        items->list = list;
        items->cap = cap;
    }
    struct item *item = &items->list[items->n++];
    memset(item, 0, sizeof(*item));
    return item;
}

static int item_add(struct items *items, const struct tensor_spec *spec, const char *name,
                    bool scale)
{
    struct item *item = items_push(items);
    if (!item)
        return -ENOMEM;
    snprintf(item->name, sizeof(item->name), "%s", name);
    item->spec = *spec;
    item->scale = scale;
    item->dtype = scale ? DTYPE_F32 : weights_dtype(items->config, spec);
    item->rank = spec->kind == TENSOR_VECTOR ? 1 : 2;
    item->shape[0] = scale ? tensor_scale_blocks(spec->rows) : spec->rows;
    item->shape[1] = scale ? tensor_scale_blocks(spec->cols) : spec->cols;
    item->bytes = (uint64_t)item->shape[0] * item->shape[1] * dtype_bytes[item->dtype];
    items->bytes += item->bytes;
    return 0;
}

static int item_collect(const struct tensor_spec *spec, void *user)
{
    struct items *items = user;
    char name[TENSOR_NAME_MAX];

    int err = item_add(items, spec, spec->name, false);
    if (err < 0 || weights_dtype(items->config, spec) != DTYPE_F8_E4M3)
        return err;
    tensor_spec_scale_name(spec, name);
    return item_add(items, spec, name, true);
}

// copies_collect adds the MTP layer's copies of embedding and head, as released files have them.
static int copies_collect(struct items *items)
{
    static const struct {
        enum tensor_role role;
        const char *name;
    } copies[] = {{ROLE_EMBED, "embed_tokens.weight"}, {ROLE_HEAD, "shared_head.head.weight"}};
    const struct model_config *config = items->config;

    for (size_t i = 0; i < 2 && config->num_nextn_predict_layers; i++) {
        struct tensor_spec spec;
        char name[TENSOR_NAME_MAX];
        int err = tensor_spec_get(config, copies[i].role, 0, 0, &spec);
        snprintf(name, sizeof(name), "model.layers.%u.%s", config->num_hidden_layers,
                 copies[i].name);
        if (err == 0)
            err = item_add(items, &spec, name, false);
        if (err < 0)
            return err;
    }
    return 0;
}

// shards_assign cuts the list into files of about the same size: two at least, so that a small
// model has an index as well.
static void shards_assign(struct items *items)
{
    uint64_t n = items->bytes / SHARD_BYTES_MAX + 1;
    uint64_t least = items->bytes > 100u << 20 ? 4 : 2;
    uint64_t shard_bytes = items->bytes / (n > least ? n : least) + 1, used = 0;
    uint32_t shard = 0;

    for (size_t i = 0; i < items->n; i++) {
        if (used > 0 && used + items->list[i].bytes > shard_bytes + shard_bytes / 16) {
            shard++;
            used = 0;
        }
        used += items->list[i].bytes;
        items->list[i].shard = shard;
    }
    items->shards = shard + 1;
}

// The stock serializer's order: wide types first, then names.
static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (dtype_bytes[x->dtype] != dtype_bytes[y->dtype])
        return dtype_bytes[x->dtype] > dtype_bytes[y->dtype] ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int items_make(const struct model_config *config, struct items *items)
{
    items->config = config;
    int err = tensor_spec_each(config, item_collect, items);
    if (err == 0)
        err = copies_collect(items);
    if (err < 0)
        return err;
    shards_assign(items);
    qsort(items->list, items->n, sizeof(*items->list), compare_items);
    return 0;
}

static void shard_name(uint32_t shard, uint32_t shards, char *ret)
{
    // Five digits, then six: as released.
    snprintf(ret, FILE_NAME_MAX, "model-%05u-of-%06u.safetensors", shard + 1, shards);
}

// --- files -------------------------------------------------------------------------------------

struct output {
    const char *dir;
    int dir_fd;
    bool made_dir;
    char (*names)[FILE_NAME_MAX]; // written so far, the last one perhaps still as .part
    uint32_t names_n, names_cap;
    int fd; // of the file being written
    uint8_t *buffer;
    size_t buffered;
    uint64_t done, total;
    bool progress; // stderr is a terminal
    struct fault *fault;
};

static const char *output_name(const struct output *out)
{
    return out->names[out->names_n - 1];
}

static void part_name(const char *name, char *ret)
{
    snprintf(ret, FILE_NAME_MAX + 8, "%.63s.part", name);
}

static int output_fail(struct output *out, int err)
{
    return fault_set(out->fault, err, "%s/%s: %s", out->dir, output_name(out), strerror(err));
}

static int output_flush(struct output *out)
{
    for (size_t at = 0; at < out->buffered;) {
        if (stopped)
            return fault_set(out->fault, EINTR, "stopped by signal %d", (int)stopped);
        ssize_t n = write(out->fd, out->buffer + at, out->buffered - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return output_fail(out, errno);
        at += (size_t)n;
    }
    out->done += out->buffered;
    out->buffered = 0;
    if (out->progress)
        fprintf(stderr, "\r%3.0f%% %s ", 100 * (double)out->done / (double)(out->total + 1),
                output_name(out));
    return 0;
}

static int output_write(struct output *out, const void *data, size_t bytes)
{
    const uint8_t *from = data;
    while (bytes > 0) {
        size_t n = BUFFER_BYTES - out->buffered;
        n = n < bytes ? n : bytes;
        memcpy(out->buffer + out->buffered, from, n);
        out->buffered += n;
        from += n;
        bytes -= n;
        int err = out->buffered == BUFFER_BYTES ? output_flush(out) : 0;
        if (err < 0)
            return err;
    }
    return 0;
}

// output_begin opens NAME.part; bytes, where known, are reserved, so that a full drive is found at
// once.
static int output_begin(struct output *out, const char *name, uint64_t bytes)
{
    char part[FILE_NAME_MAX + 8];

    if (out->names_n == out->names_cap)
        return fault_set(out->fault, EOVERFLOW, "%s: too many files", name);
    snprintf(out->names[out->names_n++], FILE_NAME_MAX, "%s", name);
    part_name(name, part);
    out->fd = openat(out->dir_fd, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (out->fd < 0)
        return output_fail(out, errno);
    if (bytes > 0 && fallocate(out->fd, 0, 0, (off_t)bytes) < 0 && errno == ENOSPC)
        return output_fail(out, ENOSPC);
    return 0;
}

static int output_end(struct output *out)
{
    char part[FILE_NAME_MAX + 8];
    int err = output_flush(out);

    if (err < 0)
        return err;
    int fd = out->fd;
    out->fd = -1;
    if (close(fd) < 0)
        return output_fail(out, errno);
    part_name(output_name(out), part);
    if (renameat(out->dir_fd, part, out->dir_fd, output_name(out)) < 0)
        return output_fail(out, errno);
    return 0;
}

static bool dir_is_empty(const char *dir)
{
    struct dirent *entry;
    bool empty = true;
    DIR *stream = opendir(dir);

    while (stream && (entry = readdir(stream)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            empty = false;
    if (stream)
        closedir(stream);
    return empty;
}

static int output_open(struct output *out, uint32_t files)
{
    out->made_dir = mkdir(out->dir, 0777) == 0;
    if (!out->made_dir && errno != EEXIST)
        return fault_set(out->fault, errno, "%s: %s", out->dir, strerror(errno));
    out->dir_fd = open(out->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->dir_fd < 0)
        return fault_set(out->fault, errno, "%s: %s", out->dir, strerror(errno));
    if (!dir_is_empty(out->dir))
        return fault_set(out->fault, EEXIST,
                         "%s: there are files already; name an empty directory "
                         "or a new one",
                         out->dir);

    struct statvfs fs;
    if (fstatvfs(out->dir_fd, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < out->total)
        return fault_set(out->fault, ENOSPC,
                         "%s: needs %" PRIu64 " MB, the file system has %" PRIu64 " MB", out->dir,
                         out->total / 1000000 + 1, (uint64_t)fs.f_bavail * fs.f_frsize / 1000000);
    out->names = calloc(files, sizeof(*out->names));
    out->buffer = malloc(BUFFER_BYTES);
    out->names_cap = files;
    if (!out->names || !out->buffer)
        return fault_set(out->fault, ENOMEM, "no memory");
    return 0;
}

// output_close also removes everything when the run failed.
static void output_close(struct output *out, bool failed)
{
    char part[FILE_NAME_MAX + 8];

    if (out->progress && out->done > 0)
        fprintf(stderr, "\r\033[K");
    if (out->fd >= 0)
        close(out->fd);
    for (uint32_t i = 0; failed && i < out->names_n; i++) {
        part_name(out->names[i], part);
        unlinkat(out->dir_fd, part, 0);
        unlinkat(out->dir_fd, out->names[i], 0);
    }
    if (out->dir_fd >= 0)
        close(out->dir_fd);
    if (failed && out->made_dir)
        rmdir(out->dir);
    free(out->names);
    free(out->buffer);
}

// --- shards ------------------------------------------------------------------------------------

// header_text writes a shard's header, padded so that the data begin at a multiple of 8 bytes.
static int header_text(const struct item *items, size_t n, char **ret_text, size_t *ret_len)
{
    uint64_t at = 0;
    FILE *out = open_memstream(ret_text, ret_len);

    if (!out)
        return -ENOMEM;
    fprintf(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        const struct item *item = &items[i];
        fprintf(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", item->name, dtype_name[item->dtype]);
        if (item->rank == 2)
            fprintf(out, "%u,", item->shape[0]);
        fprintf(out, "%u],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", item->shape[1], at,
                at + item->bytes);
        at += item->bytes;
    }
    fputc('}', out);
    while (ftello(out) % 8 != 0)
        fputc(' ', out);
    if (fclose(out) != 0) {
        free(*ret_text);
        return -ENOMEM;
    }
    return 0;
}

static int item_write(struct output *out, struct weights *weights, const struct item *item)
{
    const struct tensor_spec *spec = &item->spec;
    size_t row_bytes = (size_t)spec->cols * dtype_bytes[item->dtype];
    void *strip = malloc(item->scale ? (size_t)item->bytes : WEIGHTS_STRIP_ROWS * row_bytes);
    int err = 0;

    if (!strip)
        return fault_set(out->fault, ENOMEM, "no memory for tensor %s", item->name);
    if (item->scale) {
        weights_scales(weights, spec, strip);
        err = output_write(out, strip, (size_t)item->bytes);
    }
    for (uint32_t row = 0; !item->scale && row < spec->rows && err == 0;
         row += WEIGHTS_STRIP_ROWS) {
        uint32_t left = spec->rows - row;
        uint32_t n = left < WEIGHTS_STRIP_ROWS ? left : WEIGHTS_STRIP_ROWS;
        weights_strip(weights, spec, item->dtype, row, n, strip);
        err = output_write(out, strip, n * row_bytes);
    }
    free(strip);
    return err;
}

static int shard_write(struct output *out, struct weights *weights, const struct items *items,
                       const struct item *first, size_t n)
{
    char name[FILE_NAME_MAX], *header = NULL;
    uint8_t length[8];
    size_t header_len;
    uint64_t bytes = sizeof(length);

    shard_name(first->shard, items->shards, name);
    if (header_text(first, n, &header, &header_len) < 0)
        return fault_set(out->fault, ENOMEM, "no memory for the header of %s", name);
    for (size_t i = 0; i < n; i++)
        bytes += first[i].bytes;
    for (uint32_t i = 0; i < sizeof(length); i++)
        length[i] = (uint8_t)((uint64_t)header_len >> 8 * i);

    int err = output_begin(out, name, bytes + header_len);
    if (err == 0)
        err = output_write(out, length, sizeof(length));
    if (err == 0)
        err = output_write(out, header, header_len);
    free(header);
    for (size_t i = 0; i < n && err == 0; i++)
        err = item_write(out, weights, &first[i]);
    return err < 0 ? err : output_end(out);
}

static int shards_write(struct output *out, struct weights *weights, const struct items *items)
{
    for (size_t i = 0; i < items->n;) {
        size_t n = 1;
        while (i + n < items->n && items->list[i + n].shard == items->list[i].shard)
            n++;
        int err = shard_write(out, weights, items, &items->list[i], n);
        if (err < 0)
            return err;
        i += n;
    }
    return 0;
}

// --- JSON files --------------------------------------------------------------------------------

// json_write takes over json, which may be NULL for want of memory.
static int json_write(struct output *out, const char *name, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    int err;

    json_decref(json);
    if (!text)
        return fault_set(out->fault, ENOMEM, "no memory for %s", name);
    err = output_begin(out, name, 0);
    if (err == 0)
        err = output_write(out, text, strlen(text));
    if (err == 0)
        err = output_write(out, "\n", 1);
    free(text);
    return err < 0 ? err : output_end(out);
}

static json_t *index_json(const struct items *items)
{
    char name[FILE_NAME_MAX];
    json_t *map = json_object();

    for (size_t i = 0; map && i < items->n; i++) {
        shard_name(items->list[i].shard, items->shards, name);
        if (json_object_set_new(map, items->list[i].name, json_string(name)) < 0) {
            json_decref(map);
            return NULL;
        }
    }
    return json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)items->bytes,
                     "weight_map", map);
}

// config.json comes last: a directory without it is no checkpoint.
static int texts_write(struct output *out, const struct items *items, json_t *config)
{
    int err = json_write(out, "model.safetensors.index.json", index_json(items));
    if (err == 0)
        err = json_write(out, "tokenizer.json", tokenizer_json(items->config->vocab_size));
    if (err == 0)
        err = json_write(out, "tokenizer_config.json", tokenizer_config_json());
    if (err == 0)
        err = json_write(out, "generation_config.json", preset_generation_config(config));
    if (err == 0)
        err = json_write(out, "config.json", json_incref(config));
    return err;
}

// --- the run -----------------------------------------------------------------------------------

struct options {
    const struct preset *preset;
    const char *dir;
    uint64_t seed;
    bool mtp;
};

static int model_write(const struct options *options, const struct model_config *config,
                       json_t *config_json, struct items *items, struct fault *fault)
{
    struct output out = {
        .dir = options->dir, .dir_fd = -1, .fd = -1, .progress = isatty(2), .fault = fault};
    struct weights *weights = NULL;

    int err = items_make(config, items);
    if (err == 0)
        err = weights_create(options->seed, config, &weights);
    if (err < 0)
        return fault_set(fault, ENOMEM, "no memory for the list of tensors");
    out.total = items->bytes;
    err = output_open(&out, items->shards + 8);
    if (err == 0)
        err = shards_write(&out, weights, items);
    if (err == 0)
        err = texts_write(&out, items, config_json);
    output_close(&out, err < 0);
    weights_destroy(&weights);
    return err;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int model_make(const struct options *options, struct fault *fault)
{
    struct model_config config;
    struct items items = {0};
    double begin = seconds();
    json_t *json = preset_config(options->preset, options->mtp);
    char *text = json ? json_dumps(json, 0) : NULL;
    int err;

    if (!text)
        err = fault_set(fault, ENOMEM, "no memory for config.json");
    else
        err = model_config_parse(text, strlen(text), NULL, 0, &config, fault);
    if (err == 0 && options->mtp && !config.num_nextn_predict_layers)
        err = fault_set(fault, EINVAL, "preset %s has no MTP layer", options->preset->name);
    if (err == 0)
        err = model_write(options, &config, json, &items, fault);
    if (err == 0) {
        double took = seconds() - begin;
        printf("%s: %zu tensors in %u files, %.1f MB in %.2f s (%.0f MB/s)\n", options->dir,
               items.n, items.shards, (double)items.bytes / 1e6, took,
               (double)items.bytes / 1e6 / took);
    }
    free(items.list);
    free(text);
    json_decref(json);
    return err;
}

// --- command line ------------------------------------------------------------------------------

static void usage(FILE *out)
{
    fprintf(out, "Usage: make-model --preset NAME DIR [--seed N] [--mtp]\n"
                 "       make-model --list\n"
                 "Writes a checkpoint with random weights into DIR, which must be new or empty.\n"
                 "  --preset NAME  the shape, one of those below\n"
                 "  --seed N       other weights (0)\n"
                 "  --mtp          with a layer for multi-token prediction\n\n");
    for (const struct preset *preset = presets; preset->name; preset++)
        fprintf(out, "  %-12s %s\n", preset->name, preset->what);
}

static int seed_parse(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-')
        return -EINVAL;
    *ret = value;
    return 0;
}

// options_parse returns -1 to go on, or the exit status.
static int options_parse(int argc, char **argv, struct options *ret)
{
    static const struct option longs[] = {
        {"preset", required_argument, NULL, 'p'}, {"seed", required_argument, NULL, 's'},
        {"mtp", no_argument, NULL, 'm'},          {"list", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    const char *name = NULL;

    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        if (c == 'p') {
            name = optarg;
        } else if (c == 'm') {
            ret->mtp = true;
        } else if (c == 'l' || c == 'h') {
            usage(stdout);
            return 0;
        } else if (c != 's' || seed_parse(optarg, &ret->seed) < 0) {
            usage(stderr);
            return 2;
        }
    }
    ret->preset = name ? preset_find(name) : NULL;
    if (name && !ret->preset)
        fprintf(stderr, "make-model: no preset is called %s\n", name);
    if (!ret->preset || optind + 1 != argc) {
        usage(stderr);
        return 2;
    }
    ret->dir = argv[optind];
    return -1;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct fault fault = {0};
    const struct sigaction action = {.sa_handler = on_signal};
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    int status = options_parse(argc, argv, &options);
    if (status >= 0)
        return status;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
    signal(SIGXFSZ, SIG_IGN); // a file-size limit is then an error of write
    if (model_make(&options, &fault) < 0) {
        fprintf(stderr, "make-model: %s\n", fault.text);
        return 1;
    }
    return 0;
}
