// SPDX-License-Identifier: MIT
// conf_edit: the values that a configuration file sets, changed one by one and written as a file
// again: with every option, its comment and its default, as expertd --print-config does.
// One thread.
#pragma once
#include "base/fault.h"
#include "client/text.h"
#include "daemon/conf.h"

#define CONF_EDIT_MAX 64u // at least as many as there are options

struct conf_edit {
    struct conf_value values[CONF_EDIT_MAX]; // its texts are its own
    uint32_t n;
};

// conf_edit_read takes the values of a file's text that conf_parse accepts.
//
// text: ended by a NUL.  edit: zeroed.
// Errors: -ENOMEM.
int conf_edit_read(struct conf_edit *edit, const char *text, struct fault *fault);
void conf_edit_free(struct conf_edit *edit);

// conf_edit_get returns what is set, or NULL: the default holds.
const char *conf_edit_get(const struct conf_edit *edit, const char *section, const char *key);

// conf_edit_set sets a value, or takes it away: NULL or "".  Errors: -ENOMEM.
int conf_edit_set(struct conf_edit *edit, const char *section, const char *key, const char *value,
                  struct fault *fault);

// conf_edit_text writes the file and reads it back.
//
// ret: emptied first.
// Errors: -EINVAL a value that is wrong, or that a file cannot hold (a line too long, " ;" in a
// path); -ENOMEM.
int conf_edit_text(const struct conf_edit *edit, struct text *ret, struct fault *fault);
