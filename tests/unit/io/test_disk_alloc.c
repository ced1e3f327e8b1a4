// SPDX-License-Identifier: MIT
// disk_alloc: making, measuring, starting and ending a reader while the n-th allocation fails, for
// every n: an error with a sentence, nothing leaked (with ASan).  The linker sends the library's
// malloc, calloc, realloc, strdup and aligned_alloc here.
#include "tests/unit/io/disk_fixture.h"

static unsigned left = UINT32_MAX; // allocations until one fails; this thread alone allocates

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);
char *__wrap_strdup(const char *text);

static bool fails(void)
{
    if (left == UINT32_MAX)
        return false;
    return left == 0 || --left == 0;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return fails() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    return fails() ? NULL : __real_realloc(memory, bytes);
}

void *__wrap_aligned_alloc(size_t align, size_t bytes)
{
    return fails() ? NULL : __real_aligned_alloc(align, bytes);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

static int run(struct fixture *f, enum disk_engine engine, struct fault *fault)
{
    struct disk_params params = fixture_params(f, engine);
    uint32_t drive = 0;
    char path[512];
    params.read_size = 0; // measured
    int err = disk_reader_create(&params, &f->reader, fault);
    CHECK((err == 0) == (f->reader != NULL));
    for (uint32_t d = 0; d < f->drives_n && err == 0; d++) {
        err = disk_reader_drive_add(f->reader, "drive", &drive, fault);
        fixture_path(f, d, 0, path);
        if (err == 0)
            err = disk_reader_file_add(f->reader, drive, path, &f->file[d][0], fault);
    }
    if (err == 0)
        err = disk_reader_probe(f->reader, fault);
    if (err == 0)
        err = disk_reader_start(f->reader, fault);
    if (err == 0) { // no allocation from here on
        struct disk_read read = fixture_read(f, 3, 0, 1, 100, 300000);
        CHECK(disk_reader_submit(f->reader, &read, 1) == 0);
        CHECK(fixture_done(f).err == 0 && fixture_same(f, &read, 0));
    }
    CHECK(disk_reader_destroy(&f->reader));
    CHECK(disk_reader_destroy(&f->reader)); // of nothing
    return err;
}

static unsigned fail_each(struct fixture *f, enum disk_engine engine)
{
    for (unsigned n = 1;; n++) {
        struct fault fault = {0};
        left = n;
        int err = run(f, engine, &fault);
        bool failed = left == 0;
        left = UINT32_MAX;
        if (!failed) {
            CHECK(err == 0);
            return n - 1;
        }
        if (err == 0) // only direct_suits may do without
            continue;
        CHECK(err == -ENOMEM && fault.err == ENOMEM && fault.text[0]);
    }
}

int main(void)
{
    struct fixture f;
    fixture_init(&f, 2);
    for (int engine = DISK_ENGINE_IO_URING; engine <= DISK_ENGINE_PREAD; engine++) {
        unsigned n = fail_each(&f, (enum disk_engine)engine);
        printf("%s: %u allocations\n", disk_engine_name[engine], n);
        CHECK(n > 15); // the hooks are in place
    }
    fixture_fini(&f);
    return 0;
}
