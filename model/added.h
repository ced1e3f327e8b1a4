// SPDX-License-Identifier: MIT
// added: finds added tokens ("<think>") in text, leftmost first, longest at each place.
// Read-only once filled.  Source: model.md 6.3.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct added_token { // texts belong to whoever filled the set and outlive it
    const char *text;
    uint32_t len, id;
};

struct added_set {              // zero-initialise
    struct added_token *tokens; // sorted by bytes after added_set_sort
    uint32_t n, cap;
    bool first[256]; // some token starts with this byte
};

int added_set_push(struct added_set *set, struct added_token token); // 0 or -ENOMEM
// added_set_sort makes the set ready for added_set_find; -EEXIST if two tokens have one text.
int added_set_sort(struct added_set *set);
void added_set_free(struct added_set *set);

// added_set_find returns the first token in text, or NULL; *ret_at is where it starts.
const struct added_token *added_set_find(const struct added_set *set, const char *text, size_t len,
                                         size_t *ret_at);
// added_set_get returns the token with exactly this text, or NULL.
const struct added_token *added_set_get(const struct added_set *set, const char *text, size_t len);
