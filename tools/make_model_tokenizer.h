// SPDX-License-Identifier: MIT
// make_model_tokenizer: a byte-level BPE tokenizer of any vocabulary size in the form of
// DeepSeek-R1's: three specials, 256 bytes, merges of frequent English letters, and the chat
// markers at the top.  Encodes any text; nobody was trained on it.
#pragma once
#include <jansson.h>
#include <stdint.h>

#define TOKENIZER_VOCAB_MIN 288u // three specials, 256 bytes, the markers, ten merges

// tokenizer_json makes tokenizer.json with exactly `vocab` tokens (fewer where letters run out, at
// some 36,000).  A new reference, or NULL without memory.
json_t *tokenizer_json(uint32_t vocab);

// tokenizer_config_json makes tokenizer_config.json with R1's chat template.
json_t *tokenizer_config_json(void);
