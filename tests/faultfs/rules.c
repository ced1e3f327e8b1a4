// SPDX-License-Identifier: MIT
#include "tests/faultfs/rules.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const rule_kind_name[RULE_KIND_COUNT] = {
    [RULE_EIO] = "eio",     [RULE_SHORT] = "short", [RULE_FLIP] = "flip",
    [RULE_DELAY] = "delay", [RULE_HANG] = "hang",   [RULE_TRUNCATE] = "truncate",
};

static int rule_kind_find(const char *word, enum rule_kind *ret)
{
    for (uint32_t i = 0; word && i < RULE_KIND_COUNT; i++)
        if (!strcmp(word, rule_kind_name[i])) {
            *ret = i;
            return 0;
        }
    return -EINVAL;
}

static int rule_key(struct rule *rule, char *word)
{
    const struct {
        const char *name;
        uint64_t *value;
    } keys[] = {{"from", &rule->from},
                {"to", &rule->to},
                {"times", &rule->times},
                {"ms", &rule->ms},
                {"size", &rule->size}};

    char *number = strchr(word, '=');
    if (!number || number[1] < '0' || number[1] > '9')
        return -EINVAL;
    *number++ = '\0';
    char *end;
    errno = 0;
    const uint64_t value = strtoull(number, &end, 10);
    if (*end || errno)
        return -EINVAL;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (!strcmp(word, keys[i].name)) {
            *keys[i].value = value;
            return 0;
        }
    return -EINVAL;
}

static int rules_clear(struct rules *rules, const char *word)
{
    enum rule_kind kind = RULE_KIND_COUNT; // all
    if (word && rule_kind_find(word, &kind))
        return -EINVAL;

    uint32_t kept = 0;
    for (uint32_t i = 0; i < rules->rules_n; i++)
        if (kind != RULE_KIND_COUNT && rules->rule[i].kind != kind)
            rules->rule[kept++] = rules->rule[i];
    rules->rules_n = kept;
    return 0;
}

int rules_command(struct rules *rules, const char *line)
{
    char copy[512], *rest = copy;
    if (strlen(line) >= sizeof(copy))
        return -EINVAL;
    memcpy(copy, line, strlen(line) + 1);

    const char *word = strsep(&rest, " ");
    if (!strcmp(word, "clear"))
        return rules_clear(rules, strsep(&rest, " "));

    struct rule rule = {.to = UINT64_MAX, .times = UINT64_MAX};
    int err = rule_kind_find(word, &rule.kind);
    const char *pattern = strsep(&rest, " ");
    if (err || !pattern || strlen(pattern) >= sizeof(rule.pattern))
        return -EINVAL;
    memcpy(rule.pattern, pattern, strlen(pattern) + 1);
    for (char *key; (key = strsep(&rest, " "));)
        if (rule_key(&rule, key))
            return -EINVAL;
    if (rules->rules_n == RULES_MAX)
        return -ENOSPC;
    rules->rule[rules->rules_n++] = rule;
    return 0;
}

uint64_t rules_size(const struct rules *rules, const char *path, uint64_t size)
{
    for (uint32_t i = 0; i < rules->rules_n; i++) {
        const struct rule *rule = &rules->rule[i];
        if (rule->kind == RULE_TRUNCATE && rule->size < size && !fnmatch(rule->pattern, path, 0))
            size = rule->size;
    }
    return size;
}

// Flips what of from..to-1 lies in the bytes at off.
static void bytes_flip(uint8_t *buf, uint64_t off, size_t bytes, uint64_t from, uint64_t to)
{
    const uint64_t first = from > off ? from - off : 0;
    const uint64_t end = to - off < bytes ? to - off : bytes;
    for (uint64_t i = first; i < end; i++)
        buf[i] ^= 1;
}

struct rules_fate rules_read(struct rules *rules, const char *path, uint64_t off, uint8_t *buf,
                             size_t bytes)
{
    struct rules_fate fate = {.bytes = bytes};

    for (uint32_t i = 0; i < rules->rules_n; i++) {
        struct rule *rule = &rules->rule[i];
        if (rule->kind == RULE_TRUNCATE || !rule->times || off >= rule->to ||
            off + bytes <= rule->from || fnmatch(rule->pattern, path, 0))
            continue;
        rule->hits++;
        if (rule->times != UINT64_MAX)
            rule->times--;
        if (rule->kind == RULE_EIO)
            fate.err = -EIO;
        if (rule->kind == RULE_SHORT && fate.bytes > 1)
            fate.bytes /= 2;
        if (rule->kind == RULE_FLIP)
            bytes_flip(buf, off, bytes, rule->from, rule->to);
        if (rule->kind == RULE_DELAY)
            fate.delay_ms += rule->ms;
        if (rule->kind == RULE_HANG)
            fate.hang = true;
    }
    return fate;
}

int rules_text(const struct rules *rules, char *buf, size_t buf_bytes)
{
    size_t used = 0;
    for (uint32_t i = 0; i < rules->rules_n; i++) {
        const struct rule *rule = &rules->rule[i];
        const size_t room = used < buf_bytes ? buf_bytes - used : 0;
        const int n =
            snprintf(room ? buf + used : NULL, room,
                     "%s %s from=%" PRIu64 " to=%" PRIu64 " hits=%" PRIu64 "\n",
                     rule_kind_name[rule->kind], rule->pattern, rule->from, rule->to, rule->hits);
        used += n > 0 ? (size_t)n : 0;
    }
    return (int)used;
}
