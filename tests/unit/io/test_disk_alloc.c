// SPDX-License-Identifier: MIT
// disk_alloc: making, measuring, starting and ending a reader while the n-th allocation fails, for
// every n: an error with a sentence, nothing leaked.
#include "tests/alloc_fail.h"
#include "tests/unit/io/disk_fixture.h"

static enum disk_engine engine;

static int run(void *user, struct fault *fault)
{
    struct fixture *f = user;
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

int main(void)
{
    struct fixture f;
    fixture_init(&f, 2);
    // Only direct_suits may do without.
    const struct alloc_fail_job job = {.run = run, .user = &f, .optional = true};
    for (engine = DISK_ENGINE_IO_URING; engine <= DISK_ENGINE_PREAD; engine++) {
        unsigned n = alloc_fail_each(&job);
        printf("%s: %u allocations\n", disk_engine_name[engine], n);
        CHECK(n > 15); // the hooks are in place
    }
    fixture_fini(&f);
    return 0;
}
