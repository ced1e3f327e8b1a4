// SPDX-License-Identifier: MIT
#include "model/added.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int added_set_push(struct added_set *set, struct added_token token)
{
    if (set->n == set->cap) {
        uint32_t cap = set->cap ? set->cap * 2 : 64;
        struct added_token *grown = reallocarray(set->tokens, cap, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        set->tokens = grown;
        set->cap = cap;
    }
    set->tokens[set->n++] = token;
    set->first[(unsigned char)token.text[0]] = true;
    return 0;
}

static int token_order(const void *a, const void *b)
{
    const struct added_token *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

int added_set_sort(struct added_set *set)
{
    if (set->n)
        qsort(set->tokens, set->n, sizeof(*set->tokens), token_order);
    for (uint32_t i = 1; i < set->n; i++)
        if (token_order(&set->tokens[i - 1], &set->tokens[i]) == 0)
            return -EEXIST;
    return 0;
}

void added_set_free(struct added_set *set)
{
    free(set->tokens);
    *set = (struct added_set){0};
}

// Returns the first index in [low, high) whose byte at `depth` is >= byte; tokens that end before
// depth stand in front.
static uint32_t narrow(const struct added_set *set, uint32_t low, uint32_t high, size_t depth,
                       unsigned byte)
{
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct added_token *t = &set->tokens[mid];
        if (t->len <= depth || (unsigned char)t->text[depth] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// Returns the longest token that text starts with, or NULL.
static const struct added_token *longest(const struct added_set *set, const char *text, size_t len)
{
    const struct added_token *best = NULL;
    uint32_t low = 0, high = set->n;

    for (size_t depth = 0; depth < len; depth++) {
        unsigned byte = (unsigned char)text[depth];
        low = narrow(set, low, high, depth, byte);
        high = narrow(set, low, high, depth, byte + 1);
        if (low == high)
            break;
        if (set->tokens[low].len == depth + 1)
            best = &set->tokens[low];
    }
    return best;
}

const struct added_token *added_set_find(const struct added_set *set, const char *text, size_t len,
                                         size_t *ret_at)
{
    for (size_t at = 0; at < len; at++) {
        if (!set->first[(unsigned char)text[at]])
            continue;
        const struct added_token *found = longest(set, text + at, len - at);
        if (found) {
            *ret_at = at;
            return found;
        }
    }
    return NULL;
}

const struct added_token *added_set_get(const struct added_set *set, const char *text, size_t len)
{
    if (len > UINT32_MAX || set->n == 0)
        return NULL;
    const struct added_token key = {text, (uint32_t)len, 0};
    return bsearch(&key, set->tokens, set->n, sizeof(*set->tokens), token_order);
}
