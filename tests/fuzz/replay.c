// SPDX-License-Identifier: MIT
// replay: runs a fuzz target without a fuzzer, so that every test run covers its corpus: each file
// as it is, then N mutations of it that are the same on every run and machine.
//
// fuzz_NAME CORPUS_DIR [N] [FILE:MUTATION]; the last names one input, as a crash printed it.
#include "tests/check.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX     (1u << 20) // of a mutated input; corpus files are far smaller
#define MUTATIONS     300u       // a file, unless told otherwise: some seconds under ASan a target
#define EDITS_MAX     8u         // changes in one mutation
#define NAME_TEXT_MAX 400u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

struct input {
    char *name;
    uint8_t *bytes;
    size_t n;
};

static char replay_now[NAME_TEXT_MAX]; // what runs, for the one who must repeat a crash

static void replay_died(void)
{
    ssize_t ignored = write(STDERR_FILENO, replay_now, strlen(replay_now));
    (void)ignored;
}

static void replay_signal(int sig)
{
    replay_died();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* ---------------------------------------------------------------- corpus */

static struct input input_read(const char *dir, const char *name)
{
    char path[4096];
    struct input input = {.name = strdup(name)};
    CHECK(input.name);
    CHECK(snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path));
    FILE *file = fopen(path, "rb");
    CHECK(file);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    CHECK(size >= 0 && (size_t)size <= INPUT_MAX);
    rewind(file);
    input.n = (size_t)size;
    input.bytes = malloc(input.n ? input.n : 1);
    CHECK(input.bytes);
    CHECK(fread(input.bytes, 1, input.n, file) == input.n);
    fclose(file);
    return input;
}

static int is_file(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static struct input *corpus_read(const char *dir, size_t *ret_n)
{
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, is_file, alphasort);
    if (n <= 0)
        fprintf(stderr, "%s: no corpus\n", dir);
    CHECK(n > 0);

    struct input *inputs = calloc((size_t)n, sizeof(*inputs));
    CHECK(inputs);
    for (int i = 0; i < n; i++) {
        inputs[i] = input_read(dir, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    *ret_n = (size_t)n;
    return inputs;
}

/* ------------------------------------------------------------- mutations */

// What breaks parsers: ends of ranges, brackets, quotes, line ends, parts of UTF-8.
static const uint8_t odd_bytes[] = {0,   1,   0x7f, 0x80, 0xff, '"', '\\', '{',  '}',  '[',
                                    ']', ':', ',',  '-',  '9',  'e', '\r', '\n', 0xc2, 0xf0};

static size_t below(uint64_t *state, size_t limit)
{
    return limit ? (size_t)(check_random(state) % limit) : 0;
}

// mutate_insert puts len bytes in at a random place.
static size_t mutate_insert(uint8_t *bytes, size_t n, const uint8_t *what, size_t len,
                            uint64_t *state)
{
    if (len > INPUT_MAX - n)
        return n;
    size_t at = below(state, n + 1);
    memmove(bytes + at + len, bytes + at, n - at);
    memcpy(bytes + at, what, len);
    return n + len;
}

static size_t mutate_edit(uint8_t *bytes, size_t n, const struct input *other, uint64_t *state)
{
    uint8_t odd = odd_bytes[below(state, sizeof(odd_bytes))];
    size_t at = below(state, n), len = 1 + below(state, n - at < 64 ? n - at : 64);
    static uint8_t copy[64];

    switch (below(state, 8)) {
    case 0: // flip a bit
        if (n)
            bytes[at] ^= (uint8_t)(1u << below(state, 8));
        return n;
    case 1: // an odd byte over another
        if (n)
            bytes[at] = odd;
        return n;
    case 2: // an odd byte more
        return mutate_insert(bytes, n, &odd, 1, state);
    case 3: // a range less
        if (len > n - at)
            return n;
        memmove(bytes + at, bytes + at + len, n - at - len);
        return n - len;
    case 4: // a range twice
        if (len > n - at || len > sizeof(copy))
            return n;
        memcpy(copy, bytes + at, len);
        return mutate_insert(bytes, n, copy, len, state);
    case 5: // the end missing
        return n ? at : 0;
    case 6: // a piece of another file
        at = below(state, other->n);
        len = below(state, other->n - at < 256 ? other->n - at : 256);
        return mutate_insert(bytes, n, other->bytes + at, len, state);
    default: // a number made large
        for (; at < n && (bytes[at] < '0' || bytes[at] > '9'); at++)
            ;
        for (; at < n && bytes[at] >= '0' && bytes[at] <= '9'; at++)
            bytes[at] = '9';
        return n;
    }
}

// replay_one runs one input from memory of exactly its size, so that ASan sees a byte read behind
// it.
static void replay_one(const uint8_t *bytes, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    CHECK(exact);
    memcpy(exact, bytes, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

// replay_file runs mutation `number` of a file; 0 is the file itself.
static void replay_file(const struct input *inputs, size_t inputs_n, size_t idx, unsigned number,
                        uint8_t *scratch)
{
    const struct input *input = &inputs[idx];
    uint64_t state = 0xcbf29ce484222325ull;
    size_t n = input->n;

    snprintf(replay_now, sizeof(replay_now), "\nlast input: %s:%u\n", input->name, number);
    memcpy(scratch, input->bytes, n);
    for (const char *c = input->name; *c; c++)
        state = (state ^ (uint8_t)*c) * 0x100000001b3ull;
    state ^= (uint64_t)number << 32 | 1;
    if (number > 0)
        for (size_t edits = 1 + below(&state, EDITS_MAX); edits > 0; edits--)
            n = mutate_edit(scratch, n, &inputs[below(&state, inputs_n)], &state);
    replay_one(scratch, n);
}

int main(int argc, char **argv)
{
    size_t inputs_n = 0;
    CHECK(argc >= 2);
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    struct input *inputs = corpus_read(argv[1], &inputs_n);
    unsigned mutations = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : MUTATIONS;
    uint8_t *scratch = malloc(INPUT_MAX);
    CHECK(scratch);

    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(replay_died);
    else
        signal(SIGSEGV, replay_signal);
    signal(SIGABRT, replay_signal);
    for (size_t i = 0; i < inputs_n; i++) {
        size_t name_len = strlen(inputs[i].name);
        bool one = argc > 3;
        if (one && (strncmp(argv[3], inputs[i].name, name_len) != 0 || argv[3][name_len] != ':'))
            continue;
        unsigned first = one ? (unsigned)strtoul(argv[3] + name_len + 1, NULL, 10) : 0;
        for (unsigned number = first; number <= (one ? first : mutations); number++)
            replay_file(inputs, inputs_n, i, number, scratch);
    }
    printf("%zu files, %u mutations each\n", inputs_n, mutations);
    for (size_t i = 0; i < inputs_n; i++) {
        free(inputs[i].name);
        free(inputs[i].bytes);
    }
    free(inputs);
    free(scratch);
    return 0;
}
