// SPDX-License-Identifier: MIT
// words: the config's spellings are those of model/, stream/ and io/.
#include "daemon/conf.h"
#include "model/engine.h"
#include "model/template.h"
#include "stream/stream.h"
#include "tests/check.h"

#include <string.h>

static const struct conf_opt *opt(const char *section, const char *key)
{
    for (uint32_t i = 0; i < conf_opts_n; i++)
        if (strcmp(conf_opts[i].section, section) == 0 && strcmp(conf_opts[i].key, key) == 0)
            return &conf_opts[i];
    CHECK_FAIL("a row of this name");
    return NULL;
}

static void check_words(const struct conf_opt *o, const char *const *names, uint32_t n)
{
    CHECK(o->words_n == n);
    for (uint32_t i = 0; i < n; i++)
        CHECK(strcmp(o->words[i], names[i]) == 0);
}

int main(void)
{
    check_words(opt("model", "numerics"), numerics_name, NUMERICS_COUNT);
    check_words(opt("device", "loads"), engine_loads_name, ENGINE_LOADS_COUNT);
    check_words(opt("model", "kv_type"), kv_type_name, KV_TYPE_COUNT);
    check_words(opt("experts", "path"), slots_path_name, SLOTS_PATH_COUNT);
    check_words(opt("experts", "verify"), stream_verify_name, STREAM_VERIFY_COUNT);
    check_words(opt("experts", "prefetch"), stream_prefetch_name, STREAM_PREFETCH_COUNT);
    check_words(opt("drives", "engine"), disk_engine_name, DISK_ENGINE_COUNT);
    check_words(opt("sandbox", "filter"), sandbox_filter_name, SANDBOX_FILTER_COUNT);
    // Each style can be named; auto and r1-0528, which renders as v3-0324, stand beside them.
    const struct conf_opt *template = opt("model", "template");
    CHECK(template->words_n == TEMPLATE_STYLE_COUNT + 2);
    for (uint32_t style = 0; style < TEMPLATE_STYLE_COUNT; style++) {
        uint32_t i = 0;
        while (i < template->words_n && strcmp(template->words[i], template_style_name[style]) != 0)
            i++;
        CHECK(i < template->words_n);
    }
    return 0;
}
