// SPDX-License-Identifier: MIT
#include "tools/make_model_tokenizer.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct marker {
    const char *text;
    bool special;
};

static const struct marker specials[] = {
    {"<｜begin▁of▁sentence｜>", true},
    {"<｜end▁of▁sentence｜>", true},
    {"<｜▁pad▁｜>", true},
};

// model.md 6.3; R1 has no search markers.
static const struct marker markers[] = {
    {"<think>", false},
    {"</think>", false},
    {"<｜fim▁hole｜>", false},
    {"<｜fim▁begin｜>", false},
    {"<｜fim▁end｜>", false},
    {"<｜User｜>", false},
    {"<｜Assistant｜>", false},
    {"<|EOT|>", true},
    {"<｜tool▁calls▁begin｜>", false},
    {"<｜tool▁calls▁end｜>", false},
    {"<｜tool▁call▁begin｜>", false},
    {"<｜tool▁call▁end｜>", false},
    {"<｜tool▁outputs▁begin｜>", false},
    {"<｜tool▁outputs▁end｜>", false},
    {"<｜tool▁output▁begin｜>", false},
    {"<｜tool▁output▁end｜>", false},
    {"<｜tool▁sep｜>", false},
};

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

// Splits of model.md 6.2.
static const char pre_tokenizer[] =
    "{\"type\": \"Sequence\", \"pretokenizers\": ["
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{N}{1,3}\"},"
    " \"behavior\": \"Isolated\", \"invert\": false},"
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[一-龥\\u3040-ゟ゠-ヿ]+\"},"
    " \"behavior\": \"Isolated\", \"invert\": false},"
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": "
    "\"[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+"
    "|[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\r\\n]*"
    "|\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
    " \"behavior\": \"Isolated\", \"invert\": false},"
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true,"
    " \"use_regex\": false}]}";

static const char post_processor[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false,"
                                     " \"trim_offsets\": true, \"use_regex\": false}";
static const char decoder[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": true,"
                              " \"trim_offsets\": true, \"use_regex\": true}";

// R1's behaviour (model.md 7.2) in our own words.
static const char chat_template[] =
    "{%- set st = namespace(sys='', n=0, call=0, out=0, prev='') -%}\n"
    "{%- for m in messages if m['role'] == 'system' -%}\n"
    "{%- set st.sys = st.sys + ('\\n\\n' if st.n else '') + m['content'] -%}"
    "{%- set st.n = st.n + 1 -%}\n"
    "{%- endfor -%}\n"
    "{{- bos_token + st.sys -}}\n"
    "{%- for m in messages if m['role'] != 'system' -%}\n"
    " {%- if m['role'] == 'user' -%}\n"
    "  {{- '<｜User｜>' + m['content'] -}}\n"
    " {%- elif m['role'] == 'tool' -%}\n"
    "  {{- ('\\n' if st.out else '<｜tool▁outputs▁begin｜>') -}}\n"
    "  {{- '<｜tool▁output▁begin｜>' + m['content'] + '<｜tool▁output▁end｜>' -}}\n"
    "  {%- set st.out = 1 -%}\n"
    " {%- elif m['tool_calls'] -%}\n"
    "  {%- for c in m['tool_calls'] -%}\n"
    "   {%- set text = '<｜tool▁call▁begin｜>' + c['type'] + '<｜tool▁sep｜>' +"
    " c['function']['name'] + '\\n```json\\n' + c['function']['arguments'] +"
    " '\\n```<｜tool▁call▁end｜>' -%}\n"
    "   {{- ('\\n' + text) if st.call else ('<｜Assistant｜>' + (m['content'] or '') +"
    " '<｜tool▁calls▁begin｜>' + text) -}}\n"
    "   {%- set st.call = 1 -%}\n"
    "  {%- endfor -%}{{- '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' -}}\n"
    " {%- elif st.prev == 'tool' -%}\n"
    "  {{- '<｜tool▁outputs▁end｜>' + m['content'] + '<｜end▁of▁sentence｜>' -}}\n"
    " {%- else -%}\n"
    "  {{- '<｜Assistant｜>' + m['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' -}}\n"
    " {%- endif -%}\n"
    " {%- set st.prev = m['role'] -%}\n"
    "{%- endfor -%}\n"
    "{%- if st.prev == 'tool' -%}{{- '<｜tool▁outputs▁end｜>' -}}\n"
    "{%- elif add_generation_prompt -%}{{- '<｜Assistant｜><think>\\n' -}}{%- endif -%}\n";

// --- vocabulary --------------------------------------------------------------------------------

struct vocabulary {
    json_t *ids;    // text -> id
    json_t *merges; // "left right"
    uint32_t n, max;
    bool failed;
};

static void vocabulary_add(struct vocabulary *v, const char *text)
{
    if (json_object_set_new(v->ids, text, json_integer(v->n)) < 0)
        v->failed = true;
    v->n++;
}

// merge_add makes one token of two, if there is room.
static void merge_add(struct vocabulary *v, const char *left, const char *right)
{
    char text[16], pair[20];

    if (v->n >= v->max)
        return;
    snprintf(text, sizeof(text), "%.6s%.6s", left, right);
    snprintf(pair, sizeof(pair), "%.6s %.6s", left, right);
    vocabulary_add(v, text);
    if (json_array_append_new(v->merges, json_string(pair)) < 0)
        v->failed = true;
}

// byte_text writes the character that stands for a byte (model.md 6.2, ByteLevel).
static void byte_text(uint32_t byte, char *ret)
{
    static const uint32_t gaps[] = {0x00, 0x21, 0x7f, 0xa1, 0xad, 0xae}; // bytes without their own
    uint32_t code = byte, moved = 0x100;

    for (uint32_t i = 0; i < COUNT(gaps); i += 2) {
        if (byte >= gaps[i] && byte < gaps[i + 1])
            code = moved + byte - gaps[i];
        moved += gaps[i + 1] - gaps[i];
    }
    if (code < 0x80)
        snprintf(ret, 4, "%c", (int)code);
    else
        snprintf(ret, 4, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 63)));
}

// letters_merge adds tokens of two and three letters, frequent letters first, with and without a
// space in front ("Ġ").
static void letters_merge(struct vocabulary *v)
{
    static const char letters[] = "etaoinshrdlucmfwypvbgkjqxz";
    const uint32_t n = COUNT(letters) - 1;
    char left[16], a[2] = "", b[2] = "", c[2] = "";

    for (uint32_t i = 0; i < n; i++) {
        a[0] = letters[i];
        merge_add(v, "Ġ", a);
    }
    for (uint32_t sum = 0; sum <= 2 * (n - 1); sum++)
        for (uint32_t i = 0; i < n; i++) {
            if (sum < i || sum - i >= n)
                continue;
            a[0] = letters[i];
            b[0] = letters[sum - i];
            merge_add(v, a, b);
            snprintf(left, sizeof(left), "Ġ%s", a);
            merge_add(v, left, b);
        }
    for (uint32_t sum = 0; sum <= 3 * (n - 1); sum++)
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++) {
                if (sum < i + j || sum - i - j >= n)
                    continue;
                a[0] = letters[i];
                b[0] = letters[j];
                c[0] = letters[sum - i - j];
                snprintf(left, sizeof(left), "%s%s", a, b);
                merge_add(v, left, c);
                snprintf(left, sizeof(left), "Ġ%s%s", a, b);
                merge_add(v, left, c);
            }
}

static void vocabulary_fill(struct vocabulary *v, uint32_t vocab)
{
    char text[4];

    v->max = vocab - COUNT(markers);
    for (uint32_t i = 0; i < COUNT(specials); i++)
        vocabulary_add(v, specials[i].text);
    for (uint32_t byte = 0; byte < 256; byte++) {
        byte_text(byte, text);
        vocabulary_add(v, text);
    }
    letters_merge(v);
}

// --- files -------------------------------------------------------------------------------------

static json_t *added_token(const struct marker *marker, uint32_t id)
{
    return json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (int)id, "content", marker->text,
                     "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", !marker->special,
                     "special", marker->special);
}

static json_t *added_tokens(uint32_t first_marker)
{
    json_t *list = json_array();
    int failed = !list;

    for (uint32_t i = 0; i < COUNT(specials) && !failed; i++)
        failed = json_array_append_new(list, added_token(&specials[i], i));
    for (uint32_t i = 0; i < COUNT(markers) && !failed; i++)
        failed = json_array_append_new(list, added_token(&markers[i], first_marker + i));
    if (!failed)
        return list;
    json_decref(list);
    return NULL;
}

json_t *tokenizer_json(uint32_t vocab)
{
    struct vocabulary v = {.ids = json_object(), .merges = json_array()};

    vocabulary_fill(&v, vocab);
    if (v.failed) {
        json_decref(v.ids);
        json_decref(v.merges);
        return NULL;
    }
    // "o" takes over a reference and fails as a whole on NULL.
    return json_pack("{s:s, s:n, s:n, s:o, s:{s:s, s:[]}, s:o, s:o, s:o, s:{s:s, s:n, s:n, s:n, "
                     "s:n, s:b, s:b, s:b, s:o, s:o}}",
                     "version", "1.0", "truncation", "padding", "added_tokens", added_tokens(v.n),
                     "normalizer", "type", "Sequence", "normalizers", "pre_tokenizer",
                     json_loads(pre_tokenizer, 0, NULL), "post_processor",
                     json_loads(post_processor, 0, NULL), "decoder", json_loads(decoder, 0, NULL),
                     "model", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix",
                     "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", 0,
                     "vocab", v.ids, "merges", v.merges);
}

json_t *tokenizer_config_json(void)
{
    return json_pack("{s:b, s:b, s:s, s:b, s:s, s:b, s:i, s:s, s:s, s:n, s:s}", "add_bos_token", 1,
                     "add_eos_token", 0, "bos_token", specials[0].text,
                     "clean_up_tokenization_spaces", 0, "eos_token", specials[1].text, "legacy", 1,
                     "model_max_length", 16384, "pad_token", specials[1].text, "tokenizer_class",
                     "LlamaTokenizerFast", "unk_token", "chat_template", chat_template);
}
