// SPDX-License-Identifier: MIT
// conversation: the messages so far and the request made of them.  Reasoning is never kept: the
// model's own template drops it from the history.
#pragma once
#include "base/fault.h"
#include "client/options.h"
#include "client/text.h"

#include <jansson.h>

struct conversation {
    json_t *messages; // owned
};

// conversation_init begins with the system message, if there is one.
int conversation_init(struct conversation *conversation, const char *system, struct fault *fault);
void conversation_fini(struct conversation *conversation);

// conversation_push adds a message; -EILSEQ if it is not UTF-8.
int conversation_push(struct conversation *conversation, const char *role, const struct text *text,
                      struct fault *fault);

// conversation_pop takes the last message away again (a question that got no answer).
void conversation_pop(struct conversation *conversation);

// conversation_body returns the JSON body of a streaming chat request, to be freed.
int conversation_body(const struct conversation *conversation, const struct options *options,
                      const char *model, char **ret, struct fault *fault);
