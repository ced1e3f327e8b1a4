// SPDX-License-Identifier: MIT
// pretok_regex: rewrites an expression from Oniguruma's notation (what tokenizer.json is written
// for) to PCRE2's, where the two read the same text differently.
#pragma once
#include "base/fault.h"

// pretok_regex_translate returns the PCRE2 pattern (for PCRE2_UTF | PCRE2_UCP), to be freed.
//
// \s and \S become White_Space (PCRE2's own \s has U+180E and may lack U+0085), \d the category Nd,
// \uHHHH becomes \x{HHHH}, [X&&[^Y]] the plain class of its characters.  What would mean something
// else is refused.  Errors: -ENOTSUP naming the construct, -EINVAL, -ENOMEM.
int pretok_regex_translate(const char *pattern, char **ret, struct fault *fault);
