// SPDX-License-Identifier: MIT
// bpe: byte-pair encoding of one piece: the token bytes, and which pairs merge in which order.
// Filled once, then read-only and shared; one scratch a thread.
// Source: model.md 6.2 (lowest merge first, leftmost on ties) and 10.4 (ignore_merges).
#pragma once
#include "model/tokenizer.h"

struct bpe;
struct bpe_scratch;

#define BPE_IDS_MAX (1u << 22) // ids lie below; the largest known vocabulary has 163 840

int bpe_create(struct bpe **ret);
void bpe_destroy(struct bpe **bpe);

// bpe_token_add sets the bytes of an id.
//
// reachable: pieces can become this token; false for tokens that only decode (added tokens, text
//            outside the byte alphabet).
// Returns 0, -EEXIST if the id, or (reachable) another id with these bytes, is there, -ERANGE if
// id >= BPE_IDS_MAX, -EINVAL for no bytes, -ENOMEM.
int bpe_token_add(struct bpe *bpe, uint32_t id, const char *bytes, size_t len, bool reachable);

// bpe_token_lookup returns the id of the reachable token with these bytes, or TOKEN_NONE.
uint32_t bpe_token_lookup(const struct bpe *bpe, const char *bytes, size_t len);

// bpe_token_bytes returns the bytes of an id; *ret_len = 0 if it has none.
const char *bpe_token_bytes(const struct bpe *bpe, uint32_t id, size_t *ret_len);
uint32_t bpe_vocab(const struct bpe *bpe); // highest id with bytes, plus one

// bpe_merge_add says that left and right, side by side, become `result`; lower ranks go first; a
// pair that comes again takes its last rank.  0 or -ENOMEM.
int bpe_merge_add(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t rank, uint32_t result);

// bpe_finish completes the tables after the last token and merge.
//
// whole_first: a piece that is a token is that token, whatever the merges say ("ignore_merges").
// Returns 0, -ENOMEM, or -ENOTSUP with *ret_byte set if a byte has no token of its own.
int bpe_finish(struct bpe *bpe, bool whole_first, unsigned *ret_byte);

int bpe_scratch_create(struct bpe_scratch **ret);
void bpe_scratch_destroy(struct bpe_scratch **scratch);
// bpe_scratch_trim gives back what only a very long piece needed.
void bpe_scratch_trim(struct bpe_scratch *scratch);

// bpe_encode appends the tokens of one piece to the list.  piece: [len], len >= 1, any bytes.
// Time O(len log len), memory 40 bytes for each of len.  Returns 0, -ENOMEM, or -E2BIG for 4 GiB.
int bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *piece, size_t len,
               struct token_list *list);
