// SPDX-License-Identifier: MIT
// tiktoken.model, which Kimi-K2 has instead of a tokenizer.json: one token a line, its bytes in
// base64 and its rank, which is also its id.  Two tokens merge when their bytes together are a
// token; lower ranks go first.
// Kimi's own code also cuts runs of more than 25 000 spaces, or other characters, before it
// splits; here a run stays whole.
#include "model/tokenizer_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// Kimi's splits (tokenization_kimi.py): Han by itself, words with one change of case, then as
// Llama.
static const char kimi_regex[] =
    "[\\p{Han}]+"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

#define KIMI_RESERVED   256u  // ids behind the vocabulary that have a name, most of them reserved
#define TOKEN_BYTES_MAX 1024u // of one line; Kimi's longest token has 128
#define LINE_BASE64_MAX (TOKEN_BYTES_MAX / 3 * 4)

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// Decodes [len] base64 characters; returns bytes written, or 0 if they are not base64.
static size_t base64_decode(const char *text, size_t len, char *out)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t n = 0;

    if (len % 4 || len > LINE_BASE64_MAX)
        return 0;
    while (len && text[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0)
            return 0;
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (char)(bits >> held & 0xff);
        }
    }
    return n;
}

// Reads one line "base64 rank".
static int load_line(struct tokenizer *tok, const char *line, size_t len, uint32_t number,
                     struct fault *fault)
{
    char bytes[TOKEN_BYTES_MAX];
    const char *space = memchr(line, ' ', len);
    char digits[12] = "";
    char *end = digits;
    unsigned long rank = 0;

    size_t bytes_n = space ? base64_decode(line, (size_t)(space - line), bytes) : 0;
    size_t digits_n = space ? len - (size_t)(space + 1 - line) : 0;
    if (digits_n && digits_n < sizeof(digits) && space[1] >= '0' && space[1] <= '9') {
        memcpy(digits, space + 1, digits_n);
        rank = strtoul(digits, &end, 10);
    }
    if (bytes_n == 0 || end == digits || *end || rank >= BPE_IDS_MAX)
        return fault_set(fault, EINVAL, "line %u is not base64 and a rank below %u", number,
                         BPE_IDS_MAX);
    int err = bpe_token_add(tok->bpe, (uint32_t)rank, bytes, bytes_n, true);
    if (err == -EEXIST)
        return fault_set(fault, EINVAL, "line %u has the rank or the bytes of another", number);
    return err ? fault_set(fault, -err, "no memory for the vocabulary") : 0;
}

static int load_lines(struct tokenizer *tok, const char *text, size_t len, struct fault *fault)
{
    const char *end = text + len;

    for (uint32_t number = 1; text < end; number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline ? newline : end;
        const char *next = newline ? newline + 1 : end;
        if (line_end > text && line_end[-1] == '\r')
            line_end--;
        int err =
            line_end > text ? load_line(tok, text, (size_t)(line_end - text), number, fault) : 0;
        if (err)
            return err;
        text = next;
    }
    return 0;
}

// Every way to cut a token into two tokens is a merge with the token's rank.
static int add_merges(struct bpe *bpe)
{
    uint32_t n = bpe_vocab(bpe);

    for (uint32_t id = 0; id < n; id++) {
        size_t len;
        const char *bytes = bpe_token_bytes(bpe, id, &len);
        for (size_t cut = 1; cut < len; cut++) {
            uint32_t left = bpe_token_lookup(bpe, bytes, cut);
            uint32_t right =
                left == TOKEN_NONE ? left : bpe_token_lookup(bpe, bytes + cut, len - cut);
            if (right != TOKEN_NONE && bpe_merge_add(bpe, left, right, id, id))
                return -ENOMEM;
        }
    }
    return 0;
}

// The ids behind the vocabulary: named in added_tokens_decoder, the others reserved.
static int load_added(struct tokenizer *tok, uint32_t first, const json_t *config,
                      struct fault *fault)
{
    const json_t *named = json_object_get(config, "added_tokens_decoder");

    for (uint32_t id = first; id < first + KIMI_RESERVED; id++) {
        char key[12], reserved[40];
        snprintf(key, sizeof(key), "%u", id);
        snprintf(reserved, sizeof(reserved), "<|reserved_token_%u|>", id);
        const json_t *item = json_object_get(named, key);
        const json_t *content = json_object_get(item, "content");
        bool has_name = json_is_string(content);
        const struct added_source token = {
            .text = has_name ? json_string_value(content) : reserved,
            .len = has_name ? json_string_length(content) : strlen(reserved),
            .id = id,
            .special = !has_name || json_is_true(json_object_get(item, "special")),
        };
        int err = tokenizer_load_added(tok, token, fault);
        if (err)
            return err;
    }
    return 0;
}

int tokenizer_load_tiktoken(struct tokenizer *tok, const char *text, size_t len,
                            const json_t *config, struct fault *fault)
{
    unsigned byte;

    if (!json_is_object(json_object_get(config, "added_tokens_decoder")))
        return fault_set(fault, ENOTSUP,
                         "needs added_tokens_decoder in tokenizer_config.json, for the names of "
                         "its control tokens");
    int err = load_lines(tok, text, len, fault);
    if (!err)
        err = pretok_create_regex(kimi_regex, &tok->pretok, fault);
    if (!err && add_merges(tok->bpe))
        err = fault_set(fault, ENOMEM, "no memory for the merges");
    if (!err)
        err = load_added(tok, bpe_vocab(tok->bpe), config, fault);
    if (err)
        return err;
    err = bpe_finish(tok->bpe, true, &byte);
    if (err == -ENOTSUP)
        return fault_set(fault, ENOTSUP, "has no token for the byte 0x%02x", byte);
    return err ? fault_set(fault, -err, "no memory for the merges") : 0;
}
