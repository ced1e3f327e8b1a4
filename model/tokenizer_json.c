// SPDX-License-Identifier: MIT
// tokenizer.json of the Hugging Face tokenizers library: what of it is understood, and what is
// refused by name.
#include "base/utf8.h"
#include "model/tokenizer_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MERGES_MAX (1u << 23) // twice the ids: a file with more is broken

static const char *string_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

// ---- the byte alphabet: each byte is written as one printable character ----

// Bytes 0x21-0x7e, 0xa1-0xac and 0xae-0xff stand for themselves, the other 68 follow from U+0100.
static void alphabet_fill(int16_t byte_of[512])
{
    int16_t next = 256;

    for (int i = 0; i < 512; i++)
        byte_of[i] = -1;
    for (int16_t b = 0; b < 256; b++) {
        bool itself = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        byte_of[itself ? b : next++] = b;
    }
}

// Writes the bytes that text stands for; returns false if a character is not of the alphabet.
static bool alphabet_decode(const int16_t byte_of[512], const char *text, size_t len, char *out,
                            size_t *ret_len)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + len;
    size_t n = 0;

    while (p < end) {
        uint32_t c = utf8_get(&p);
        if (c >= 512 || byte_of[c] < 0)
            return false;
        out[n++] = (char)byte_of[c];
    }
    *ret_len = n;
    return true;
}

// ---- parts of the file ----

static int load_normalizer(struct tokenizer *tok, const json_t *item, struct fault *fault)
{
    const json_t *list = json_object_get(item, "normalizers"), *part;
    const char *type = string_of(item, "type");
    size_t i;

    if (!item || json_is_null(item))
        return 0;
    if (type && strcmp(type, "NFC") == 0) {
        tok->nfc = true;
        return 0;
    }
    if (!type || strcmp(type, "Sequence") != 0 || !json_is_array(list))
        return fault_set(fault, ENOTSUP, "the normalizer %.60s is not supported (known: NFC)",
                         type ? type : "(none)");
    json_array_foreach(list, i, part)
    {
        const char *name = string_of(part, "type");
        if (!name || strcmp(name, "NFC") != 0)
            return fault_set(fault, ENOTSUP, "the normalizer %.60s is not supported (known: NFC)",
                             name ? name : "(none)");
        tok->nfc = true;
    }
    return 0;
}

static int load_added_one(struct tokenizer *tok, const json_t *item, struct fault *fault)
{
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    const json_t *content = json_object_get(item, "content");
    const json_t *id = json_object_get(item, "id");

    if (!json_is_string(content) || !json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= BPE_IDS_MAX)
        return fault_set(fault, EINVAL, "an added token has no content, or an id not in 0..%u",
                         BPE_IDS_MAX - 1);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (json_is_true(json_object_get(item, refused[i])))
            return fault_set(fault, ENOTSUP, "the added token %.80s has %s, which is not supported",
                             json_string_value(content), refused[i]);
    const struct added_source token = {
        .text = json_string_value(content),
        .len = json_string_length(content),
        .id = (uint32_t)json_integer_value(id),
        .special = json_is_true(json_object_get(item, "special")),
        .normalized = json_is_true(json_object_get(item, "normalized")),
    };
    return tokenizer_load_added(tok, token, fault);
}

static int load_added(struct tokenizer *tok, const json_t *list, struct fault *fault)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        int err = load_added_one(tok, item, fault);
        if (err)
            return err;
    }
    return 0;
}

// What the model object may not ask for.
static int check_model(const json_t *model, struct fault *fault)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = string_of(model, "type");

    if (!type || strcmp(type, "BPE") != 0)
        return fault_set(fault, ENOTSUP, "model.type is %.60s; only BPE is supported",
                         type ? type : "(none)");
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return fault_set(fault, ENOTSUP, "model.byte_fallback is not supported");
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return fault_set(fault, ENOTSUP, "model.dropout is not supported");
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        const char *value = string_of(model, empty[i]);
        if (value && *value)
            return fault_set(fault, ENOTSUP, "model.%s is not supported", empty[i]);
    }
    if (!json_is_object(json_object_get(model, "vocab")) ||
        !json_is_array(json_object_get(model, "merges")))
        return fault_set(fault, EINVAL, "model.vocab or model.merges is missing");
    return 0;
}

static int load_token(struct tokenizer *tok, const int16_t byte_of[512], const char *text,
                      const json_t *id_value, char **buf, size_t *buf_cap, struct fault *fault)
{
    size_t len = strlen(text), bytes_len = len;
    const char *bytes = text;

    if (!json_is_integer(id_value) || json_integer_value(id_value) < 0 ||
        json_integer_value(id_value) >= BPE_IDS_MAX)
        return fault_set(fault, EINVAL, "model.vocab: the id of %.80s is not in 0..%u", text,
                         BPE_IDS_MAX - 1);
    uint32_t id = (uint32_t)json_integer_value(id_value);
    if (id < tok->kind_n && tok->kind[id] & TOKEN_CONTROL)
        return 0; // has its bytes from added_tokens; no merge ever makes it
    if (*buf_cap < len) {
        char *grown = realloc(*buf, len);
        if (!grown)
            return fault_set(fault, ENOMEM, "no memory for the vocabulary");
        *buf = grown;
        *buf_cap = len;
    }
    bool reachable = alphabet_decode(byte_of, text, len, *buf, &bytes_len);
    if (reachable)
        bytes = *buf;
    int err = bpe_token_add(tok->bpe, id, bytes, bytes_len, reachable);
    if (err == -EEXIST || err == -EINVAL)
        return fault_set(fault, EINVAL, "model.vocab: %.80s has the id or the bytes of another",
                         text);
    return err ? fault_set(fault, ENOMEM, "no memory for the vocabulary") : 0;
}

static int load_vocab(struct tokenizer *tok, const int16_t byte_of[512], json_t *vocab,
                      struct fault *fault)
{
    const char *text;
    json_t *id;
    char *buf = NULL;
    size_t buf_cap = 0;
    int err = 0;

    json_object_foreach(vocab, text, id)
    {
        err = load_token(tok, byte_of, text, id, &buf, &buf_cap, fault);
        if (err)
            break;
    }
    free(buf);
    return err;
}

// The two sides of a merge, in the byte alphabet.
struct merge_text {
    const char *left, *right;
    size_t left_len, right_len;
};

// A merge is "left right" or ["left", "right"].
static bool merge_parse(const json_t *item, struct merge_text *ret)
{
    if (json_is_string(item)) {
        const char *text = json_string_value(item), *space = strchr(text, ' ');
        if (!space)
            return false;
        *ret = (struct merge_text){text, space + 1, (size_t)(space - text),
                                   json_string_length(item) - (size_t)(space + 1 - text)};
        return true;
    }
    const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
    if (json_array_size(item) != 2 || !json_is_string(left) || !json_is_string(right))
        return false;
    *ret = (struct merge_text){json_string_value(left), json_string_value(right),
                               json_string_length(left), json_string_length(right)};
    return true;
}

#define MERGE_BYTES_MAX 8192u // of one merged token; DeepSeek's longest has 128

static int load_merge(struct tokenizer *tok, const int16_t byte_of[512], const json_t *item,
                      uint32_t rank, struct fault *fault)
{
    char bytes[MERGE_BYTES_MAX];
    struct merge_text text;
    size_t left_len, right_len;

    if (!merge_parse(item, &text))
        return fault_set(fault, EINVAL, "model.merges: entry %u is not a pair", rank);
    if (text.left_len + text.right_len > sizeof(bytes))
        return fault_set(fault, EINVAL, "model.merges: entry %u is longer than %u bytes", rank,
                         MERGE_BYTES_MAX);
    if (!alphabet_decode(byte_of, text.left, text.left_len, bytes, &left_len) ||
        !alphabet_decode(byte_of, text.right, text.right_len, bytes + left_len, &right_len))
        return fault_set(fault, EINVAL, "model.merges: entry %u is not in the byte alphabet", rank);

    uint32_t left = bpe_token_lookup(tok->bpe, bytes, left_len);
    uint32_t right = bpe_token_lookup(tok->bpe, bytes + left_len, right_len);
    uint32_t result = bpe_token_lookup(tok->bpe, bytes, left_len + right_len);
    if (left == TOKEN_NONE || right == TOKEN_NONE || result == TOKEN_NONE)
        return fault_set(fault, EINVAL,
                         "model.merges: entry %u (%.40s + %.40s) is not made of tokens, or makes "
                         "none",
                         rank, text.left, text.right);
    return bpe_merge_add(tok->bpe, left, right, rank, result)
               ? fault_set(fault, ENOMEM, "no memory for the merges")
               : 0;
}

static int load_merges(struct tokenizer *tok, const int16_t byte_of[512], const json_t *merges,
                       struct fault *fault)
{
    const json_t *item;
    size_t i;

    if (json_array_size(merges) > MERGES_MAX)
        return fault_set(fault, EINVAL, "model.merges has more than %u entries", MERGES_MAX);
    json_array_foreach(merges, i, item)
    {
        int err = load_merge(tok, byte_of, item, (uint32_t)i, fault);
        if (err)
            return err;
    }
    return 0;
}

static int load_model(struct tokenizer *tok, const json_t *model, struct fault *fault)
{
    int16_t byte_of[512];
    unsigned byte;

    int err = check_model(model, fault);
    alphabet_fill(byte_of);
    if (!err)
        err = load_vocab(tok, byte_of, json_object_get(model, "vocab"), fault);
    if (!err)
        err = load_merges(tok, byte_of, json_object_get(model, "merges"), fault);
    if (err)
        return err;
    err = bpe_finish(tok->bpe, json_is_true(json_object_get(model, "ignore_merges")), &byte);
    if (err == -ENOTSUP)
        return fault_set(fault, ENOTSUP,
                         "model.vocab has no token for the byte 0x%02x: only byte-level BPE is "
                         "supported",
                         byte);
    return err ? fault_set(fault, ENOMEM, "no memory for the merges") : 0;
}

static int check_decoder(const json_t *decoder, struct fault *fault)
{
    const char *type = string_of(decoder, "type");

    if (!type || strcmp(type, "ByteLevel") != 0)
        return fault_set(fault, ENOTSUP, "the decoder %.60s is not supported, only ByteLevel",
                         type ? type : "(none)");
    return 0;
}

int tokenizer_load_json(struct tokenizer *tok, const char *text, size_t len, struct fault *fault)
{
    json_error_t error;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);

    if (!root)
        return fault_set(fault, EINVAL, "line %d, column %d: %.150s", error.line, error.column,
                         error.text);
    int err = check_decoder(json_object_get(root, "decoder"), fault);
    if (!err)
        err = load_normalizer(tok, json_object_get(root, "normalizer"), fault);
    if (!err)
        err = pretok_create(json_object_get(root, "pre_tokenizer"), &tok->pretok, fault);
    if (!err)
        err = load_added(tok, json_object_get(root, "added_tokens"), fault);
    if (!err)
        err = load_model(tok, json_object_get(root, "model"), fault);
    json_decref(root);
    return err;
}
