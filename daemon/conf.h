// SPDX-License-Identifier: MIT
// conf: what the operator may decide.  One table (conf_table.c) makes the parser, --help, the
// commented default file and the options section of expertd.conf(5).
// Owner: ctl.  Other threads read the struct that was built before they started, and of the rows
// that can change at run time the copy in daemon/live.h.
#pragma once
#include "base/fault.h"
#include "base/log.h"
#include "daemon/sandbox.h"
#include "model/engine.h"
#include "stream/stream.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CONF_TEXT_MAX 192u // bytes of a text value with its NUL; inih reads lines of up to 198
#define CONF_LIST_MAX (STREAM_DIRS_MAX * CONF_TEXT_MAX) // bytes of a list with its NUL

enum conf_template { // [model] template; conf_template_name has the words
    CONF_TEMPLATE_AUTO,
    CONF_TEMPLATE_V3,
    CONF_TEMPLATE_R1,
    CONF_TEMPLATE_V3_0324,
    CONF_TEMPLATE_R1_0528, // renders as V3-0324
    CONF_TEMPLATE_V31,
    CONF_TEMPLATE_DISTILL,
    CONF_TEMPLATE_KIMI_K2,
    CONF_TEMPLATE_COUNT
};

enum conf_mtp { CONF_MTP_AUTO, CONF_MTP_ON, CONF_MTP_OFF, CONF_MTP_COUNT };
enum conf_requests { CONF_REQUESTS_OFF, CONF_REQUESTS_SUMMARY, CONF_REQUESTS_COUNT };

enum conf_huge_pages {
    CONF_HUGE_PAGES_AUTO,
    CONF_HUGE_PAGES_YES,
    CONF_HUGE_PAGES_NO,
    CONF_HUGE_PAGES_COUNT
};

// A size: bytes, or a percentage of something that is known later.
struct conf_size {
    uint64_t bytes;   // 0 if percent is given
    uint32_t percent; // 0: bytes counts
};

// Every field is one row of the table; all times in microseconds.
struct conf {
    char model_path[CONF_TEXT_MAX];
    char model_name[CONF_TEXT_MAX];
    uint32_t model_context_max;
    uint32_t model_numerics; // enum numerics
    uint32_t model_kv_type;  // enum kv_type
    uint32_t model_template; // enum conf_template
    uint32_t model_mtp;      // enum conf_mtp

    char device_select[CONF_TEXT_MAX];
    struct conf_size device_memory;
    uint32_t device_loads; // enum engine_loads
    char device_pipeline_cache[CONF_TEXT_MAX];

    char listen_socket[CONF_TEXT_MAX];
    uint32_t listen_socket_mode;
    char listen_loopback[CONF_TEXT_MAX];

    uint32_t experts_place; // enum engine_experts
    uint32_t experts_path;  // enum slots_path
    struct conf_size experts_ram;
    struct conf_size experts_vram;
    uint32_t experts_verify;   // enum stream_verify
    uint32_t experts_prefetch; // enum stream_prefetch

    char drives_pack[CONF_LIST_MAX];
    char drives_shards[CONF_LIST_MAX];
    uint32_t drives_engine; // enum disk_engine
    uint32_t drives_queue_depth;
    uint64_t drives_read_size;
    uint64_t drives_timeout;

    char net_port[CONF_TEXT_MAX];
    uint32_t net_huge_pages; // enum conf_huge_pages
    char net_address[CONF_TEXT_MAX];
    char net_gateway[CONF_TEXT_MAX];
    char net_address6[CONF_TEXT_MAX];
    uint32_t net_http_port;
    uint32_t net_https_port;
    char net_tls_certificate[CONF_TEXT_MAX];
    char net_tls_key[CONF_TEXT_MAX];
    char net_tls_client_ca[CONF_TEXT_MAX];
    char net_keys[CONF_TEXT_MAX];
    uint32_t net_allow_anonymous; // 1: yes
    char net_cors_origins[CONF_TEXT_MAX];

    uint32_t limits_requests_max;
    uint32_t limits_sequences_max;
    uint32_t limits_kv_tokens_max;
    uint32_t limits_batch_rows_max;
    uint32_t limits_prefill_rows_max;
    uint32_t limits_prompt_tokens_max;
    uint64_t limits_body_bytes_max;
    uint64_t limits_unsent_bytes_max;
    uint32_t limits_connections_max;
    uint32_t limits_connections_per_address_max;
    uint32_t limits_requests_per_minute;
    uint32_t limits_requests_per_key_max;
    uint64_t limits_header_timeout;
    uint64_t limits_body_timeout;
    uint64_t limits_idle_timeout;
    uint64_t limits_keep_alive;

    uint32_t sandbox_filter; // enum sandbox_filter

    uint32_t log_level;    // enum log_level
    uint32_t log_requests; // enum conf_requests
};

enum conf_type {
    CONF_TEXT,  // char[CONF_TEXT_MAX]
    CONF_LIST,  // char[CONF_LIST_MAX]: texts with ',' between; a key on several lines adds up
    CONF_U32,   // a number, decimal
    CONF_MODE,  // uint32_t, octal file mode
    CONF_SIZE,  // struct conf_size: bytes with K M G T, or N%
    CONF_BYTES, // uint64_t: bytes with K M G T
    CONF_TIME,  // uint64_t microseconds: us ms s min
    CONF_WORD,  // uint32_t: index of a word
    CONF_TYPE_COUNT
};

struct conf_opt {
    const char *section, *key;
    enum conf_type type;
    uint32_t offset;          // in struct conf
    uint64_t min, max;        // of the number; of text: max is its length, of a list its texts
    const char *fallback;     // the default, as the file writes it
    const char *unit;         // for people; "" where the words or the help say it
    const char *const *words; // CONF_WORD
    uint32_t words_n;
    bool reloadable;
    const char *help; // one or two sentences
};

extern const struct conf_opt conf_opts[];
extern const uint32_t conf_opts_n;
extern const char *const conf_template_name[CONF_TEMPLATE_COUNT];

void conf_defaults(struct conf *conf);

// conf_parse reads INI text over what conf holds.
//
// name: for sentences ("NAME:LINE: ...").  text: [n] bytes.
// Errors: -EINVAL unknown section or key, a bad value, a key given twice, a line that is no INI or
// longer than inih takes; the first one in the file.  conf may be partly changed then.
int conf_parse(struct conf *conf, const char *name, const char *text, size_t n,
               struct fault *fault);

// conf_load reads a file.  Errors: those of conf_parse; -errno if it cannot be read.
int conf_load(struct conf *conf, const char *path, struct fault *fault);

// conf_set applies "section.key=value", as --set gives it.
int conf_set(struct conf *conf, const char *assignment, struct fault *fault);

// conf_engine writes what the configuration says of the engine; pack, pipeline cache and progress
// are the caller's.
//
// context_max: tokens, as the model is served.  machine_bytes, device_bytes: of memory, of which
// percentages are.
void conf_engine(const struct conf *conf, uint32_t context_max, uint64_t machine_bytes,
                 uint64_t device_bytes, struct engine_params *ret);

// conf_kv_check: KV memory must hold at least one sequence of full length.  -EINVAL.
int conf_kv_check(const struct conf *conf, uint32_t context_max, struct fault *fault);

// conf_check judges what no single row can: a model is named, a socket or a port is there.
int conf_check(const struct conf *conf, struct fault *fault);

// conf_reload takes over the reloadable rows of `fresh`.
// told: called for each row that differs but takes effect only after a restart; may be NULL.
// Returns how many rows changed.
uint32_t conf_reload(struct conf *conf, const struct conf *fresh,
                     void (*told)(const struct conf_opt *opt));

// conf_list_split cuts a list where it stands.
//
// list: [CONF_LIST_MAX] as the table's rows have it; its commas become NULs.
// ret: the texts, which point into it.  Returns how many, at most max.
uint32_t conf_list_split(char *list, const char **ret, uint32_t max);

void conf_print_file(FILE *out); // the commented default file, etc/expertd.conf

// What a file gives for a key, as it writes it; of a list all texts with ',' between.
struct conf_value {
    const char *section, *key, *value;
};
// conf_print_values is conf_print_file with these values [n] below their defaults.
void conf_print_values(FILE *out, const struct conf_value *values, uint32_t n);
void conf_print_help(FILE *out); // for --help
void conf_print_man(FILE *out);  // mdoc for expertd.conf(5)
