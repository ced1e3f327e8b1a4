// SPDX-License-Identifier: MIT
// safetensors: a good file is read exactly; every kind of bad header has its error and its
// sentence.
#include "model/safetensors.h"
#include "tests/unit/model/fixture.h"

#include <errno.h>

static char dir[] = "/tmp/test_safetensors.XXXXXX";
static char path[64];

// write_file makes a file of header text and `data` bytes 0, 1, 2, ...; len is what its first eight
// bytes say, or UINT64_MAX for the truth.
static void write_file(const char *header, size_t header_len, uint64_t len, size_t data)
{
    size_t n = 8 + header_len + data;
    unsigned char *bytes = malloc(n);
    CHECK(bytes);
    if (len == UINT64_MAX)
        len = header_len;
    for (uint32_t i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(len >> 8 * i);
    memcpy(bytes + 8, header, header_len);
    for (size_t i = 0; i < data; i++)
        bytes[8 + header_len + i] = (unsigned char)i;
    fixture_write(dir, "x.safetensors", bytes, n);
    free(bytes);
}

static void refused(const char *header, size_t data, int err, const char *piece)
{
    struct safetensors *st = NULL;
    struct fault fault = {0};
    write_file(header, strlen(header), UINT64_MAX, data);
    int got = safetensors_open(path, &st, &fault);
    if (got != -err || !strstr(fault.text, piece))
        fprintf(stderr, "%s\n%d, expected %d and \"%s\": %s\n", header, got, -err, piece,
                fault.text);
    CHECK(got == -err);
    CHECK(st == NULL);
    CHECK(strstr(fault.text, piece));
    CHECK(strstr(fault.text, "x.safetensors"));
}

static void test_good(void)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[7,31],\"extra\":1},"
        "\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[7],\"data_offsets\":[0,7]},"
        "\"scalar\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[31,33]},"
        "\"empty\":{\"dtype\":\"I64\",\"shape\":[4,0,18446],\"data_offsets\":[7,7]}}   ";
    struct safetensors *st = NULL;
    struct fault fault = {0};
    unsigned char read[24];

    write_file(header, strlen(header), UINT64_MAX, 33);
    CHECK(safetensors_open(path, &st, &fault) == 0);
    CHECK(strcmp(safetensors_path(st), path) == 0);
    CHECK(safetensors_count(st) == 4);
    const char *order[] = {"a", "empty", "b", "scalar"};
    for (uint32_t i = 0; i < 4; i++) {
        CHECK(strcmp(safetensors_at(st, i)->name, order[i]) == 0);
        CHECK(safetensors_find(st, order[i]) == safetensors_at(st, i));
        CHECK(safetensors_at(st, i)->file_idx == 0);
    }
    CHECK(!safetensors_find(st, "c") && !safetensors_find(st, "") && !safetensors_find(st, "zz"));
    CHECK(!safetensors_find(st, "__metadata__"));

    const struct tensor *b = safetensors_find(st, "b");
    CHECK(b->dtype == DTYPE_F32 && b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 3);
    CHECK(b->bytes == 24 && b->file_off == 8 + strlen(header) + 7);
    CHECK(safetensors_find(st, "scalar")->rank == 0 && safetensors_find(st, "scalar")->bytes == 2);
    CHECK(safetensors_find(st, "empty")->bytes == 0);
    CHECK(safetensors_read(st, b, 0, read, 24, &fault) == 0);
    CHECK(read[0] == 7 && read[23] == 30);
    CHECK(safetensors_read(st, b, 23, read, 1, &fault) == 0 && read[0] == 30);
    CHECK(safetensors_read(st, b, 24, read, 0, &fault) == 0);
    safetensors_number(st, 5);
    CHECK(b->file_idx == 5);

    // The file shrinks while it is open.
    CHECK(truncate(path, (off_t)(b->file_off + 4)) == 0);
    CHECK(safetensors_read(st, b, 0, read, 24, &fault) == -EBADMSG);
    CHECK(strstr(fault.text, "tensor b") && strstr(fault.text, "x.safetensors"));
    safetensors_close(&st);
    CHECK(!st);
    safetensors_close(&st);

    write_file("{}", 2, UINT64_MAX, 0);
    CHECK(safetensors_open(path, &st, &fault) == 0 && safetensors_count(st) == 0);
    CHECK(!safetensors_find(st, "a"));
    safetensors_close(&st);
}

#define T(dtype, shape, offsets)                                                                   \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second)                                                                         \
    "{\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" first                               \
    "},\"u\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" second "}}"

static void test_entries(void)
{
    refused("{\"t\":3}", 0, EBADMSG, "tensor t");
    refused("{\"t\":{}}", 0, EBADMSG, "dtype");
    refused("{\"t\":{\"dtype\":3}}", 0, EBADMSG, "dtype");
    refused(T("F8_E8M0", "[4]", "[0,4]"), 4, ENOTSUP, "F8_E8M0");
    refused(T("F4", "[4]", "[0,2]"), 2, ENOTSUP, "F4");
    refused("{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, EBADMSG, "shape");
    refused(T("U8", "4", "[0,4]"), 4, EBADMSG, "shape");
    refused(T("U8", "[-4]", "[0,4]"), 4, EBADMSG, "dimension 0");
    refused(T("U8", "[4.0]", "[0,4]"), 4, EBADMSG, "dimension 0");
    refused(T("U8", "[1,1,1,1,1,1,1,1,4]", "[0,4]"), 4, EBADMSG, "9 dimensions");
    refused(T("F32", "[4611686018427387904,4611686018427387904]", "[0,4]"), 4, EBADMSG, "2^64");
    refused(T("F64", "[2305843009213693952]", "[0,0]"), 0, EBADMSG, "2^64");
    refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, EBADMSG, "data_offsets");
    refused(T("U8", "[4]", "[0]"), 4, EBADMSG, "data_offsets");
    refused(T("U8", "[4]", "[0,4,8]"), 4, EBADMSG, "data_offsets");
    refused(T("U8", "[4]", "[4,0]"), 4, EBADMSG, "data_offsets");
    refused(T("U8", "[4]", "[-4,0]"), 4, EBADMSG, "data_offsets");
    refused(T("U8", "[4]", "[0,5]"), 5, EBADMSG, "5 bytes");
    refused(T("BF16", "[4]", "[0,4]"), 4, EBADMSG, "need 8");
    refused(T("U8", "[4]", "[0,4]"), 3, EBADMSG, "truncated");
    refused(T("U8", "[9223372036854775807]", "[0,9223372036854775807]"), 3, EBADMSG, "truncated");
    refused(T("U8", "[4]", "[0,4]"), 5, EBADMSG, "1 bytes behind");
    refused(T("U8", "[4]", "[1,5]"), 5, EBADMSG, "hole of 1 bytes before tensor t");
    refused(TWO("[0,4]", "[3,7]"), 7, EBADMSG, "tensor u overlaps tensor t");
    refused(TWO("[0,4]", "[0,4]"), 4, EBADMSG, "overlaps");
    refused(TWO("[0,4]", "[5,9]"), 9, EBADMSG, "hole of 1 bytes before tensor u");
    refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
            "\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            0, EBADMSG, "duplicate");
    refused("{\"__metadata__\":3}", 0, EBADMSG, "__metadata__");
    refused("{\"__metadata__\":{\"a\":3}}", 0, EBADMSG, "__metadata__");
    refused("{\"t\\u0000\":3}", 0, EBADMSG, "JSON");
    refused("{\"\\n\\u001b[31m\":3}", 0, EBADMSG, "tensor ??[31m"); // cannot forge a log line
}

static void test_headers(void)
{
    struct safetensors *st = NULL;
    struct fault fault = {0};

    refused("", 0, EBADMSG, "begin with {");
    refused(" {}", 0, EBADMSG, "begin with {");
    refused("[]", 0, EBADMSG, "begin with {");
    refused("{", 0, EBADMSG, "JSON");
    refused("{} x", 0, EBADMSG, "JSON");
    refused("{\"\xff\":3}", 0, EBADMSG, "JSON");
    refused("{\"t\":[[[[[[[[[[1]]]]]]]]]]}", 0, EFBIG, "deeper");

    static const uint64_t lengths[] = {3, 1000, 100000000, 100000000000, INT64_MAX, UINT64_MAX - 1};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        write_file("{}", 2, lengths[i], 0);
        int err = safetensors_open(path, &st, &fault);
        CHECK(err == (lengths[i] > 100000000 ? -EFBIG : -EBADMSG));
        CHECK(strstr(fault.text, "x.safetensors: a header of"));
    }
    fixture_write(dir, "x.safetensors", "1234567", 7);
    CHECK(safetensors_open(path, &st, &fault) == -EBADMSG);
    fixture_write(dir, "x.safetensors", "", 0);
    CHECK(safetensors_open(path, &st, &fault) == -EBADMSG);

    // 20 MB of the smallest values.
    size_t n = 20u << 20;
    char *wide = malloc(n);
    CHECK(wide);
    memcpy(wide, "{\"t\":[", 6);
    for (size_t i = 6; i < n; i += 2)
        memcpy(wide + i, "1,", 2);
    write_file(wide, n, UINT64_MAX, 0);
    CHECK(safetensors_open(path, &st, &fault) == -EFBIG);
    CHECK(strstr(fault.text, "values"));
    free(wide);
}

static void test_not_files(void)
{
    struct safetensors *st = NULL;
    struct fault fault = {0};

    CHECK(unlink(path) == 0);
    CHECK(safetensors_open(path, &st, &fault) == -ENOENT);
    CHECK(strstr(fault.text, "x.safetensors: No such file"));
    CHECK(safetensors_open(dir, &st, &fault) == -EINVAL);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK(safetensors_open(path, &st, &fault) == -EINVAL);
    CHECK(safetensors_open("/dev/zero", &st, &fault) == -EINVAL);
    CHECK(unlink(path) == 0);

    char loops[8192];
    memset(loops, 'a', sizeof(loops) - 1);
    loops[sizeof(loops) - 1] = '\0';
    CHECK(safetensors_open(loops, &st, &fault) == -ENAMETOOLONG);
    CHECK(strstr(fault.text, "File name too long")); // the reason is not cut off
}

int main(void)
{
    CHECK(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/x.safetensors", dir);
    for (uint32_t d = 0; d < DTYPE_COUNT; d++)
        CHECK(dtype_name[d] && dtype_bytes[d]);
    test_good();
    test_entries();
    test_headers();
    test_not_files();
    CHECK(rmdir(dir) == 0);
    return 0;
}
