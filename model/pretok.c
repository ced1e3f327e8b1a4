// SPDX-License-Identifier: MIT
#include "model/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretok_regex.h"
#include <errno.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// A repeat of one class keeps two positions whatever its length, so the stack is for nesting, of
// which the known expressions have little.
#define JIT_STACK_BYTES_MIN (32u << 10)
#define JIT_STACK_BYTES_MAX (1u << 20)
// The interpreter is used where the system forbids writable code pages.
#define HEAP_KIB_MAX (64u << 10)
// Steps PCRE2 may take for one match: some for every byte of the text, so that a run of ten
// million spaces is no error, and the library's own default for short ones.
#define MATCH_STEPS_BASE     10000000ull
#define MATCH_STEPS_PER_BYTE 16ull
#define PATTERN_BYTES_MAX    (64u << 10)

struct pretok {
    pcre2_code *stage[PRETOK_STAGES_MAX];
    uint32_t stages_n;
    bool jit; // every stage has machine code
};

struct pretok_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

void pretok_destroy(struct pretok **pretok)
{
    if (!*pretok)
        return;
    for (uint32_t i = 0; i < (*pretok)->stages_n; i++)
        pcre2_code_free((*pretok)->stage[i]);
    free(*pretok);
    *pretok = NULL;
}

static int stage_compile(const char *pattern, pcre2_code **ret, struct fault *fault)
{
    int code;
    PCRE2_SIZE offset;
    PCRE2_UCHAR words[128] = "";

    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return fault_set(fault, ENOMEM, "no memory for an expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *ret = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!*ret) {
        pcre2_get_error_message(code, words, sizeof(words));
        return fault_set(fault, EINVAL, "an expression does not compile: %s", (char *)words);
    }
    return 0;
}

static int stage_add(struct pretok *pretok, const char *pattern, struct fault *fault)
{
    char *translated;

    if (pretok->stages_n == PRETOK_STAGES_MAX)
        return fault_set(fault, ENOTSUP, "pre_tokenizer has more than %u stages",
                         PRETOK_STAGES_MAX);
    if (strlen(pattern) > PATTERN_BYTES_MAX)
        return fault_set(fault, ENOTSUP, "an expression has more than %u bytes", PATTERN_BYTES_MAX);
    int err = pretok_regex_translate(pattern, &translated, fault);
    if (err)
        return err;
    err = stage_compile(translated, &pretok->stage[pretok->stages_n], fault);
    free(translated);
    if (err)
        return err;
    if (pcre2_jit_compile(pretok->stage[pretok->stages_n], PCRE2_JIT_COMPLETE) != 0)
        pretok->jit = false;
    pretok->stages_n++;
    return 0;
}

// Words for a JSON value in an error: the string, or "(none)".
static const char *name_of(const json_t *value)
{
    return json_is_string(value) ? json_string_value(value) : "(none)";
}

static int parse_split(struct pretok *pretok, const json_t *split, struct fault *fault)
{
    const json_t *behavior = json_object_get(split, "behavior");
    const json_t *regex = json_object_get(json_object_get(split, "pattern"), "Regex");

    if (!json_is_string(behavior) || strcmp(json_string_value(behavior), "Isolated") != 0)
        return fault_set(fault, ENOTSUP,
                         "pre_tokenizer Split with behavior %.40s is not supported, only Isolated",
                         name_of(behavior));
    if (json_is_true(json_object_get(split, "invert")))
        return fault_set(fault, ENOTSUP, "pre_tokenizer Split with invert is not supported");
    if (!json_is_string(regex))
        return fault_set(fault, ENOTSUP, "pre_tokenizer Split without pattern.Regex");
    return stage_add(pretok, json_string_value(regex), fault);
}

// The expression that ByteLevel runs itself unless use_regex is false (GPT-2's).
static const char gpt2_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static int parse_byte_level(struct pretok *pretok, const json_t *level, struct fault *fault)
{
    const json_t *use_regex = json_object_get(level, "use_regex");

    if (json_is_true(json_object_get(level, "add_prefix_space")))
        return fault_set(fault, ENOTSUP,
                         "pre_tokenizer ByteLevel with add_prefix_space is not supported");
    if (use_regex && !json_is_true(use_regex))
        return 0;
    return stage_add(pretok, gpt2_regex, fault);
}

static int parse_one(struct pretok *pretok, const json_t *item, bool *byte_level,
                     struct fault *fault)
{
    const json_t *type = json_object_get(item, "type");

    if (!json_is_string(type))
        return fault_set(fault, EINVAL, "pre_tokenizer has no type");
    if (*byte_level)
        return fault_set(fault, ENOTSUP, "pre_tokenizer %.40s after ByteLevel is not supported",
                         json_string_value(type));
    if (strcmp(json_string_value(type), "Split") == 0)
        return parse_split(pretok, item, fault);
    if (strcmp(json_string_value(type), "ByteLevel") == 0) {
        *byte_level = true;
        return parse_byte_level(pretok, item, fault);
    }
    return fault_set(fault, ENOTSUP,
                     "pre_tokenizer %.40s is not supported (known: Split, ByteLevel, Sequence)",
                     json_string_value(type));
}

static int parse(struct pretok *pretok, const json_t *item, struct fault *fault)
{
    const json_t *list = json_object_get(item, "pretokenizers");
    bool byte_level = false;
    size_t i;
    const json_t *part;
    int err = 0;

    if (!json_is_array(list)) {
        err = parse_one(pretok, item, &byte_level, fault);
    } else {
        json_array_foreach(list, i, part)
        {
            err = parse_one(pretok, part, &byte_level, fault);
            if (err)
                return err;
        }
    }
    if (!err && !byte_level)
        err = fault_set(fault, ENOTSUP,
                        "pre_tokenizer has no ByteLevel: only byte-level BPE is supported");
    return err;
}

int pretok_create(const json_t *pre_tokenizer, struct pretok **ret, struct fault *fault)
{
    struct pretok *pretok = calloc(1, sizeof(*pretok));
    if (!pretok)
        return fault_set(fault, ENOMEM, "no memory for the pre-tokenizer");
    pretok->jit = true;
    int err = parse(pretok, pre_tokenizer, fault);
    if (err) {
        pretok_destroy(&pretok);
        return err;
    }
    *ret = pretok;
    return 0;
}

int pretok_create_regex(const char *pattern, struct pretok **ret, struct fault *fault)
{
    struct pretok *pretok = calloc(1, sizeof(*pretok));
    if (!pretok)
        return fault_set(fault, ENOMEM, "no memory for the pre-tokenizer");
    pretok->jit = true;
    int err = stage_add(pretok, pattern, fault);
    if (err) {
        pretok_destroy(&pretok);
        return err;
    }
    *ret = pretok;
    return 0;
}

void pretok_scratch_destroy(struct pretok_scratch **scratch)
{
    if (!*scratch)
        return;
    pcre2_match_data_free((*scratch)->match);
    pcre2_match_context_free((*scratch)->context);
    pcre2_jit_stack_free((*scratch)->stack);
    free(*scratch);
    *scratch = NULL;
}

int pretok_scratch_create(const struct pretok *pretok, struct pretok_scratch **ret)
{
    struct pretok_scratch *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->match = pcre2_match_data_create(1, NULL); // the whole match is all we ask for
    s->context = pcre2_match_context_create(NULL);
    if (pretok->jit)
        s->stack = pcre2_jit_stack_create(JIT_STACK_BYTES_MIN, JIT_STACK_BYTES_MAX, NULL);
    if (!s->match || !s->context || (pretok->jit && !s->stack)) {
        pretok_scratch_destroy(&s);
        return -ENOMEM;
    }
    pcre2_jit_stack_assign(s->context, NULL, s->stack);
    pcre2_set_heap_limit(s->context, HEAP_KIB_MAX);
    *ret = s;
    return 0;
}

struct split {
    const struct pretok *pretok;
    struct pretok_scratch *scratch;
    pretok_piece_fn *piece_fn;
    void *user;
    struct fault *fault;
};

// Finds the next non-empty match at or after *at; *ret_start == len if there is none.
static int match_next(const struct split *s, uint32_t stage, const char *text, size_t len,
                      size_t at, size_t *ret_start, size_t *ret_end)
{
    const pcre2_code *re = s->pretok->stage[stage];
    const size_t *ovector = pcre2_get_ovector_pointer(s->scratch->match);
    int rc;

    if (s->pretok->jit)
        rc = pcre2_jit_match(re, (PCRE2_SPTR)text, len, at, PCRE2_NOTEMPTY, s->scratch->match,
                             s->scratch->context);
    else
        rc = pcre2_match(re, (PCRE2_SPTR)text, len, at, PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK,
                         s->scratch->match, s->scratch->context);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *ret_start = *ret_end = len;
        return 0;
    }
    if (rc == PCRE2_ERROR_NOMEMORY)
        return fault_set(s->fault, ENOMEM, "no memory to match an expression");
    if (rc < 0)
        return fault_set(s->fault, E2BIG,
                         "expression %u of the pre-tokenizer gave up on this text (PCRE2 error %d)",
                         stage, rc);
    *ret_start = ovector[0];
    *ret_end = ovector[1];
    return 0;
}

static int split_stage(const struct split *s, uint32_t stage, const char *text, size_t len);

static int next_stage(const struct split *s, uint32_t stage, const char *piece, size_t len)
{
    if (stage + 1 == s->pretok->stages_n)
        return s->piece_fn(s->user, piece, len);
    return split_stage(s, stage + 1, piece, len);
}

static int split_stage(const struct split *s, uint32_t stage, const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t start = 0, end = 0;
        int err = match_next(s, stage, text, len, at, &start, &end);
        if (!err && start > at) // what no match covers is a piece too
            err = next_stage(s, stage, text + at, start - at);
        if (!err && end > start)
            err = next_stage(s, stage, text + start, end - start);
        if (err)
            return err;
        at = end;
    }
    return 0;
}

int pretok_split(const struct pretok *pretok, struct pretok_scratch *scratch, const char *text,
                 size_t len, pretok_piece_fn *piece_fn, void *user, struct fault *fault)
{
    const struct split s = {pretok, scratch, piece_fn, user, fault};
    uint64_t steps = MATCH_STEPS_BASE + MATCH_STEPS_PER_BYTE * len;

    if (len == 0)
        return 0;
    if (pretok->stages_n == 0)
        return piece_fn(user, text, len);
    pcre2_set_match_limit(scratch->context, steps > UINT32_MAX ? UINT32_MAX : (uint32_t)steps);
    return split_stage(&s, 0, text, len);
}
