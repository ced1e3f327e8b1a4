// SPDX-License-Identifier: MIT
#include "model/tokenizer.h"
#include "base/utf8.h"
#include "model/nfc.h"
#include "model/tokenizer_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int tokenizer_open(const char *dir, struct tokenizer **ret, struct fault *fault)
{
    struct tokenizer *tok = calloc(1, sizeof(*tok));
    if (!tok)
        return fault_set(fault, ENOMEM, "no memory for the tokenizer");
    int err = tokenizer_load(dir, tok, fault);
    if (err) {
        tokenizer_close(&tok);
        return err;
    }
    *ret = tok;
    return 0;
}

void tokenizer_close(struct tokenizer **tok)
{
    struct tokenizer *t = *tok;
    if (!t)
        return;
    bpe_destroy(&t->bpe);
    pretok_destroy(&t->pretok);
    added_set_free(&t->all);
    added_set_free(&t->raw);
    added_set_free(&t->normal);
    for (uint32_t i = 0; i < t->added_n; i++)
        free(t->added_text[i]);
    free(t->added_text);
    free(t->kind);
    free(t->chat_template);
    free(t);
    *tok = NULL;
}

uint32_t tokenizer_vocab(const struct tokenizer *tok)
{
    return bpe_vocab(tok->bpe);
}

uint32_t tokenizer_id(const struct tokenizer *tok, const char *text)
{
    const struct added_token *found = added_set_get(&tok->all, text, strlen(text));
    return found ? found->id : TOKEN_NONE;
}

const char *tokenizer_bytes(const struct tokenizer *tok, uint32_t id, size_t *ret_len)
{
    return bpe_token_bytes(tok->bpe, id, ret_len);
}

bool tokenizer_has(const struct tokenizer *tok, uint32_t id)
{
    size_t len;
    bpe_token_bytes(tok->bpe, id, &len);
    return len != 0;
}

static bool has_kind(const struct tokenizer *tok, uint32_t id, enum token_kind kind)
{
    return id < bpe_vocab(tok->bpe) && tok->kind[id] & kind;
}

bool tokenizer_is_added(const struct tokenizer *tok, uint32_t id)
{
    return has_kind(tok, id, TOKEN_ADDED);
}

bool tokenizer_is_special(const struct tokenizer *tok, uint32_t id)
{
    return has_kind(tok, id, TOKEN_SPECIAL);
}

bool tokenizer_is_control(const struct tokenizer *tok, uint32_t id)
{
    return has_kind(tok, id, TOKEN_CONTROL);
}

bool tokenizer_add_bos(const struct tokenizer *tok)
{
    return tok->add_bos;
}

uint32_t tokenizer_bos(const struct tokenizer *tok)
{
    return tok->bos;
}

uint32_t tokenizer_eos(const struct tokenizer *tok)
{
    return tok->eos;
}

const char *tokenizer_chat_template(const struct tokenizer *tok)
{
    return tok->chat_template;
}

void token_list_free(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){0};
}

int token_list_push(struct token_list *list, uint32_t id)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        uint32_t *grown = reallocarray(list->ids, cap, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        list->ids = grown;
        list->cap = cap;
    }
    list->ids[list->n++] = id;
    return 0;
}

// ---- encoding ----

#define PENDING_BYTES_KEPT (256u << 10) // a larger buffer is given back after the text

struct tokenizer_scratch {
    struct pretok_scratch *pretok;
    struct bpe_scratch *bpe;
    char *pending; // text that is not yet encoded, when it comes from more than one place
    size_t pending_cap;
};

void tokenizer_scratch_destroy(struct tokenizer_scratch **scratch)
{
    if (!*scratch)
        return;
    pretok_scratch_destroy(&(*scratch)->pretok);
    bpe_scratch_destroy(&(*scratch)->bpe);
    free((*scratch)->pending);
    free(*scratch);
    *scratch = NULL;
}

int tokenizer_scratch_create(const struct tokenizer *tok, struct tokenizer_scratch **ret)
{
    struct tokenizer_scratch *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    if (pretok_scratch_create(tok->pretok, &s->pretok) || bpe_scratch_create(&s->bpe)) {
        tokenizer_scratch_destroy(&s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

// What one call of tokenizer_encode_parts works on.
struct encoding {
    const struct tokenizer *tok;
    struct tokenizer_scratch *scratch;
    struct token_list *list;
    struct fault *fault;
    // Text that is not yet encoded: [len], at `text`, or in scratch->pending if held.
    const char *text;
    size_t len;
    bool held;
};

static int encode_piece(void *user, const char *piece, size_t len)
{
    const struct encoding *e = user;
    int err = bpe_encode(e->tok->bpe, e->scratch->bpe, piece, len, e->list);
    return err == -E2BIG ? fault_set(e->fault, E2BIG, "a piece of the text has 4 GiB or more")
                         : err;
}

// Encodes the pending text and forgets it.
static int flush(struct encoding *e)
{
    const char *text = e->held ? e->scratch->pending : e->text;
    size_t len = e->len;
    char *normal = NULL;
    int err = 0;

    if (len == 0)
        return 0;
    e->len = 0;
    e->held = false;
    if (e->tok->nfc && !nfc_is_normal(text, len)) {
        err = nfc_normalize(text, len, &normal, &len);
        text = normal;
    }
    if (!err)
        err =
            pretok_split(e->tok->pretok, e->scratch->pretok, text, len, encode_piece, e, e->fault);
    if (err == -ENOMEM)
        fault_set(e->fault, ENOMEM, "no memory to tokenize %zu bytes", len);
    free(normal);
    return err;
}

// Moves the pending text into our own memory, with room for `more` bytes behind it.
static int hold(struct encoding *e, size_t more)
{
    struct tokenizer_scratch *s = e->scratch;

    if (s->pending_cap < e->len + more) {
        size_t cap = 2 * (e->len + more);
        char *grown = realloc(s->pending, cap);
        if (!grown)
            return fault_set(e->fault, ENOMEM, "no memory to tokenize %zu bytes", e->len + more);
        s->pending = grown;
        s->pending_cap = cap;
    }
    if (!e->held)
        memcpy(s->pending, e->text, e->len);
    e->held = true;
    return 0;
}

// Adds text to what is pending; it must stay valid until the next flush or hold.
static int append(struct encoding *e, const char *text, size_t len)
{
    if (len == 0)
        return 0;
    if (e->len == 0) {
        e->text = text;
        e->len = len;
        return 0;
    }
    int err = hold(e, len);
    if (err)
        return err;
    memcpy(e->scratch->pending + e->len, text, len);
    e->len += len;
    return 0;
}

typedef int between_fn(struct encoding *e, const char *text, size_t len);

// Cuts text at the tokens of the set: what lies between goes to `between`, tokens to the list.
static int cut(struct encoding *e, const struct added_set *set, const char *text, size_t len,
               between_fn *between)
{
    while (len) {
        size_t at = len;
        const struct added_token *found = added_set_find(set, text, len, &at);
        int err = at ? between(e, text, at) : 0;
        if (err || !found)
            return err;
        err = flush(e);
        if (!err && token_list_push(e->list, found->id))
            err = fault_set(e->fault, ENOMEM, "no memory for the tokens");
        if (err)
            return err;
        text += at + found->len;
        len -= at + found->len;
    }
    return 0;
}

// Between tokens that are matched in the raw text come those matched in normal form.
static int between_raw(struct encoding *e, const char *text, size_t len)
{
    char *normal = NULL;

    if (e->tok->normal.n == 0 || !e->tok->nfc || nfc_is_normal(text, len))
        return cut(e, &e->tok->normal, text, len, append);
    int err = nfc_normalize(text, len, &normal, &len);
    if (err)
        return fault_set(e->fault, -err, "no memory to tokenize %zu bytes", len);
    err = cut(e, &e->tok->normal, normal, len, append);
    if (!err && e->len) // the rest may go on in the next part, and `normal` goes away
        err = hold(e, 0);
    free(normal);
    return err;
}

static int check_utf8(const struct token_part *part, struct fault *fault)
{
    size_t valid = utf8_valid_len(part->text, part->len);
    if (valid == part->len)
        return 0;
    return fault_set(fault, EILSEQ, "the text is not valid UTF-8 at byte %zu", valid);
}

static void scratch_trim(struct tokenizer_scratch *s)
{
    bpe_scratch_trim(s->bpe);
    if (s->pending_cap > PENDING_BYTES_KEPT) {
        free(s->pending);
        s->pending = NULL;
        s->pending_cap = 0;
    }
}

int tokenizer_encode_parts(const struct tokenizer *tok, struct tokenizer_scratch *scratch,
                           const struct token_part *parts, size_t parts_n, struct token_list *list,
                           struct fault *fault)
{
    struct encoding e = {.tok = tok, .scratch = scratch, .list = list, .fault = fault};
    size_t list_n = list->n;
    int err = 0;

    for (size_t i = 0; i < parts_n && !err; i++)
        err = check_utf8(&parts[i], fault);
    for (size_t i = 0; i < parts_n && !err; i++) {
        if (parts[i].parse_added)
            err = cut(&e, &tok->raw, parts[i].text, parts[i].len, between_raw);
        else
            err = append(&e, parts[i].text, parts[i].len);
    }
    if (!err)
        err = flush(&e);
    if (err)
        list->n = list_n;
    scratch_trim(scratch);
    return err;
}

int tokenizer_encode(const struct tokenizer *tok, struct tokenizer_scratch *scratch,
                     const char *text, size_t len, bool parse_added, struct token_list *list,
                     struct fault *fault)
{
    const struct token_part part = {text, len, parse_added};
    return tokenizer_encode_parts(tok, scratch, &part, 1, list, fault);
}
