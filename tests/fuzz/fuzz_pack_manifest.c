// SPDX-License-Identifier: MIT
// Any bytes as manifest.json of a pack: refused with a sentence, or taken, and then its layout adds
// up and written again it is taken again and says the same.  An input that is JSON is tried a
// second time with a self-sum that fits, to get behind that check.
#include "model/pack_manifest.h"
#include "tests/check.h"

#include <jansson.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void layout_check(const struct pack_manifest *m)
{
    const struct pack_layout *l = &m->layout;
    uint64_t sum = 0;

    CHECK(l->stride > 0 && l->stride % PACK_ALIGN == 0);
    CHECK(l->parts_n >= 1 && l->parts_n <= PACK_PARTS_MAX);
    for (uint32_t i = 0; i < l->parts_n; i++) {
        CHECK(l->part_bytes[i] > 0 && l->part_bytes[i] % PACK_ALIGN == 0);
        sum += l->part_bytes[i];
    }
    CHECK(sum == l->stride);
    CHECK(l->gate < l->up && l->up < l->down && l->down < l->stride);
    CHECK((l->gate | l->up | l->down | l->gate_scale | l->up_scale | l->down_scale) % 16 == 0);
    uint32_t n = experts_n(&m->experts);
    CHECK(n > 0 && l->stride <= INT64_MAX / n);
    for (uint32_t i = 0; i < n; i += 1 + n / 7) {
        uint32_t layer, expert;
        experts_name(&m->experts, i, &layer, &expert);
        CHECK(experts_index(&m->experts, layer, expert) == i);
    }
    for (uint32_t i = 0; i < m->source.shards_n; i++)
        CHECK(m->source.shards[i].name);
}

static void one(const char *text, size_t len)
{
    struct pack_manifest m, again;
    struct fault fault = {0};

    int err = pack_manifest_parse(text, len, &m, &fault);
    if (err < 0) {
        CHECK(fault.err == -err && fault.text[0]);
        return;
    }
    layout_check(&m);
    char *written = pack_manifest_text(&m);
    CHECK(written);
    CHECK(pack_manifest_parse(written, strlen(written), &again, NULL) == 0);
    CHECK(memcmp(&m.layout, &again.layout, sizeof(m.layout)) == 0);
    CHECK(memcmp(&m.experts, &again.experts, sizeof(m.experts)) == 0);
    CHECK(memcmp(m.source.id, again.source.id, sizeof(m.source.id)) == 0);
    CHECK(m.source.shards_n == again.source.shards_n);
    free(written);
    pack_manifest_fini(&m);
    pack_manifest_fini(&again);
}

// summed gives the text with a self-sum that fits, or NULL.
static char *summed(const char *text, size_t len)
{
    char hex[CHECKSUM_HEX], *out = NULL;
    uint8_t sum[CHECKSUM_BYTES];
    json_t *root = len < 65536 ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL) : NULL;

    json_object_del(root, "manifest_xxh3");
    char *plain = root ? json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (plain) {
        checksum_of(plain, strlen(plain), sum);
        checksum_hex(sum, hex);
        json_object_set_new(root, "manifest_xxh3", json_string(hex));
        out = json_dumps(root, 0);
    }
    free(plain);
    json_decref(root);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    one((const char *)data, size);
    char *text = summed((const char *)data, size);
    if (text)
        one(text, strlen(text));
    free(text);
    return 0;
}
