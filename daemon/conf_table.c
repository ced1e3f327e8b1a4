// SPDX-License-Identifier: MIT
// conf_table: the only list of options.  The parser, --help, etc/expertd.conf and expertd.conf(5)
// are all made from it; after a change run `expertd --print-config > etc/expertd.conf` and
// `expertd --print-config-man` (tests compare both).
#include "daemon/conf.h"

#include "api/keys.h"

#include <assert.h>
#include <stddef.h>

const char *const conf_template_name[CONF_TEMPLATE_COUNT] = {
    [CONF_TEMPLATE_AUTO] = "auto",       [CONF_TEMPLATE_V3] = "v3",
    [CONF_TEMPLATE_R1] = "r1",           [CONF_TEMPLATE_V3_0324] = "v3-0324",
    [CONF_TEMPLATE_R1_0528] = "r1-0528", [CONF_TEMPLATE_V31] = "v3.1",
    [CONF_TEMPLATE_DISTILL] = "distill", [CONF_TEMPLATE_KIMI_K2] = "kimi-k2",
};

// A second spelling of numerics_name, engine_loads_name and the like, because a table needs
// constants; a test compares them.
static const char *const numerics_words[NUMERICS_COUNT] = {
    [NUMERICS_FP8_WEIGHTS] = "fp8-weights",
    [NUMERICS_OFFICIAL_FP8] = "official-fp8",
};
static const char *const loads_words[ENGINE_LOADS_COUNT] = {
    [ENGINE_LOADS_AUTO] = "auto",
    [ENGINE_LOADS_TEXEL] = "texel",
    [ENGINE_LOADS_ADDRESS] = "address",
};
static const char *const place_words[] = {
    [ENGINE_EXPERTS_AUTO] = "auto",
    [ENGINE_EXPERTS_RESIDENT] = "resident",
    [ENGINE_EXPERTS_SLOTS] = "slots",
};
static const char *const path_words[SLOTS_PATH_COUNT] = {
    [SLOTS_PATH_AUTO] = "auto",
    [SLOTS_PATH_IMPORT] = "import",
    [SLOTS_PATH_STAGING] = "staging",
};
static const char *const verify_words[STREAM_VERIFY_COUNT] = {
    [STREAM_VERIFY_FIRST] = "first",
    [STREAM_VERIFY_ALWAYS] = "always",
    [STREAM_VERIFY_OFF] = "off",
};
static const char *const prefetch_words[STREAM_PREFETCH_COUNT] = {
    [STREAM_PREFETCH_AUTO] = "auto",
    [STREAM_PREFETCH_ON] = "on",
    [STREAM_PREFETCH_OFF] = "off",
};
static const char *const engine_words[DISK_ENGINE_COUNT] = {
    [DISK_ENGINE_AUTO] = "auto",
    [DISK_ENGINE_IO_URING] = "io_uring",
    [DISK_ENGINE_PREAD] = "pread",
};
static const char *const kv_words[KV_TYPE_COUNT] = {[KV_F16] = "f16", [KV_F32] = "f32"};
static const char *const mtp_words[CONF_MTP_COUNT] = {
    [CONF_MTP_AUTO] = "auto", [CONF_MTP_ON] = "on", [CONF_MTP_OFF] = "off"};
static const char *const level_words[LOG_LEVEL_COUNT] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};
static const char *const huge_pages_words[CONF_HUGE_PAGES_COUNT] = {
    [CONF_HUGE_PAGES_AUTO] = "auto", [CONF_HUGE_PAGES_YES] = "yes", [CONF_HUGE_PAGES_NO] = "no"};
static const char *const filter_words[SANDBOX_FILTER_COUNT] = {
    [SANDBOX_DENY] = "deny", [SANDBOX_LOG] = "log", [SANDBOX_OFF] = "off"};
static const char *const no_yes_words[] = {"no", "yes"};
static const char *const requests_words[CONF_REQUESTS_COUNT] = {
    [CONF_REQUESTS_OFF] = "off", [CONF_REQUESTS_SUMMARY] = "summary"};

#define RELOAD  true
#define RESTART false

#define ROW(field, section_, key_, type_, min_, max_, fallback_, unit_, words_, words_n_,          \
            reloadable_, help_)                                                                    \
    {                                                                                              \
        .section = section_, .key = key_, .type = type_, .offset = offsetof(struct conf, field),   \
        .min = min_, .max = max_, .fallback = fallback_, .unit = unit_, .words = words_,           \
        .words_n = words_n_, .reloadable = reloadable_, .help = help_                              \
    }
// 0, and does not compile unless the field has the type.
#define FIELD_IS(field, type) _Generic(((struct conf *)0)->field, type : 0u)
#define TEXT(field, section, key, max, fallback, help)                                             \
    ROW(field, section, key, CONF_TEXT, 0, (max) + FIELD_IS(field, char *), fallback, "", NULL, 0, \
        RESTART, help)
#define DIRS(field, section, key, help)                                                            \
    ROW(field, section, key, CONF_LIST, 0, STREAM_DIRS_MAX + FIELD_IS(field, char *), "",          \
        "directories", NULL, 0, RESTART, help)
#define SIZE(field, section, key, help)                                                            \
    ROW(field, section, key, CONF_SIZE, 0, (64ull << 40) + FIELD_IS(field, struct conf_size), "0", \
        "bytes or %", NULL, 0, RESTART, help)
#define NUMBER(field, section, key, min, max, fallback, unit, help)                                \
    COUNT(field, section, key, min, max, fallback, unit, RESTART, help)
#define COUNT(field, section, key, min, max, fallback, unit, reload, help)                         \
    ROW(field, section, key, CONF_U32, min, (max) + FIELD_IS(field, uint32_t), fallback, unit,     \
        NULL, 0, reload, help)
#define BYTES(field, section, key, min, max, fallback, reload, help)                               \
    ROW(field, section, key, CONF_BYTES, min, (max) + FIELD_IS(field, uint64_t), fallback,         \
        "bytes", NULL, 0, reload, help)
#define TIME(field, section, key, min, max, fallback, reload, help)                                \
    ROW(field, section, key, CONF_TIME, min, (max) + FIELD_IS(field, uint64_t), fallback, "time",  \
        NULL, 0, reload, help)
#define WORD(field, section, key, words, fallback, reload, help)                                   \
    ROW(field, section, key, CONF_WORD, 0,                                                         \
        sizeof(words) / sizeof((words)[0]) - 1 + FIELD_IS(field, uint32_t), fallback, "", words,   \
        sizeof(words) / sizeof((words)[0]), reload, help)

#define SECOND 1000000ull
#define DAY    (86400 * SECOND)

// clang-format off
const struct conf_opt conf_opts[] = {
    TEXT(model_path, "model", "path", CONF_TEXT_MAX - 1, "",
        "Directory of the checkpoint as Hugging Face lays it out. Read in place, never converted."),
    TEXT(model_name, "model", "name", 100, "",
        "Name that clients ask for. Empty: the last part of path."),
    NUMBER(model_context_max, "model", "context_max", 16, 1u << 20, "32768", "tokens",
        "Prompt and answer of one sequence together; cut to what the model was made for."),
    WORD(model_numerics, "model", "numerics", numerics_words, "fp8-weights", RESTART,
        "fp8-weights computes with 32-bit activations; official-fp8 quantises the inputs of FP8 "
        "layers to E4M3, as the released code does."),
    WORD(model_kv_type, "model", "kv_type", kv_words, "f16", RESTART,
        "Type of the key-value cache."),
    WORD(model_template, "model", "template", conf_template_name, "auto", RESTART,
        "Chat template. auto recognises it from the checkpoint."),
    WORD(model_mtp, "model", "mtp", mtp_words, "auto", RESTART,
        "Draft one token ahead with the model's own MTP layer and verify it; the text is the same. "
        "auto drafts while at most two answers run, if the layer fits in memory: with more, the "
        "second row costs what it gains; with experts on drives it also measures whether drafting is "
        "faster."),

    TEXT(device_select, "device", "select", 100, "auto",
        "Vulkan device: auto, an index, a UUID, or part of its name."),
    SIZE(device_memory, "device", "memory",
        "Device memory that may be taken, in bytes or in percent of what the device has. 0: all that it reports."),
    WORD(device_loads, "device", "loads", loads_words, "auto", RESTART,
        "How kernels read weights: texel suits drivers that compute on the CPU, address real GPUs. "
        "The two sum in different orders, so answers may differ in the last bits."),
    TEXT(device_pipeline_cache, "device", "pipeline_cache", CONF_TEXT_MAX - 1, "auto",
        "File that keeps compiled shaders for the next start. auto: in $CACHE_DIRECTORY, "
        "$XDG_CACHE_HOME/expertd or ~/.cache/expertd; off: none."),

    WORD(experts_place, "experts", "place", place_words, "auto", RESTART,
        "Where routed experts are: resident keeps all of them in memory, slots reads them from drives "
        "as the router selects them. auto: resident if they fit, unless ram or a pack says otherwise."),
    SIZE(experts_ram, "experts", "ram",
        "Memory for slots, in bytes or in percent of the machine's memory. 0: what is free after "
        "dense weights and KV."),
    SIZE(experts_vram, "experts", "vram",
        "Memory for slots on a device that has its own, in bytes or in percent of it; what it "
        "evicts stays in ram. 0: what is free."),
    WORD(experts_path, "experts", "path", path_words, "auto", RESTART,
        "How experts reach kernels: import lets kernels read the memory that drives filled, staging "
        "copies it into the device's own. auto: import where the device shares the host's memory."),
    WORD(experts_verify, "experts", "verify", verify_words, "first", RESTART,
        "Checksums of experts are compared: first, when an expert is read for the first time; "
        "always; off, never."),
    WORD(experts_prefetch, "experts", "prefetch", prefetch_words, "auto", RESTART,
        "Read ahead what the next layer will probably want while drives have nothing else to do. "
        "auto: as long as it is right often enough."),

    DIRS(drives_pack, "drives", "pack",
        "Pack made by expertctl pack, or copies of it on several drives; experts are read from "
        "there, not from the checkpoint's shards."),
    DIRS(drives_shards, "drives", "shards",
        "Further directories with copies of the checkpoint's shards, or of some of them, on other "
        "drives: their bandwidth adds up."),
    WORD(drives_engine, "drives", "engine", engine_words, "auto", RESTART,
        "How drives are read. auto: io_uring, or pread with a warning where that is forbidden."),
    NUMBER(drives_queue_depth, "drives", "queue_depth", 0, 512, "0", "reads",
        "Reads in flight on each drive. 0: measured at start."),
    BYTES(drives_read_size, "drives", "read_size", 0, 16ull << 20, "0", RESTART,
        "Bytes of one read, a multiple of 4K and at least 64K. 0: measured at start."),
    TIME(drives_timeout, "drives", "timeout", SECOND / 100, 3600 * SECOND, "30s", RESTART,
        "A read that takes longer has failed; it is tried again, on another copy first."),

    TEXT(listen_socket, "listen", "socket", 107, "/run/expertd/api.sock",
        "Unix socket that answers HTTP. Empty: none."),
    ROW(listen_socket_mode, "listen", "socket_mode", CONF_MODE, 0, 0777 + FIELD_IS(listen_socket_mode, uint32_t),
        "0660", "octal", NULL, 0, RESTART, "Permissions of the socket."),
    TEXT(listen_loopback, "listen", "loopback", 60, "",
        "ADDRESS:PORT on 127.0.0.0/8 or [::1] for tools that cannot speak to a socket; every user "
        "of this machine can connect, and call it localhost or by a numeric address (Host). As a "
        "service it also needs the drop-in loopback.conf. "
        "Empty: none."),

    TEXT(net_port, "net", "port", 80, "",
        "NIC that the kernel never sees: a PCI address (0000:03:00.0) bound to vfio-pci, tap:NAME, "
        "af_packet:IF or af_xdp:IF. Empty: none."),
    WORD(net_huge_pages, "net", "huge_pages", huge_pages_words, "auto", RESTART,
        "Memory of frames in huge pages. auto: for a PCI address, which needs them."),
    TEXT(net_address, "net", "address", 40, "dhcp",
        "dhcp, or A.B.C.D/N. Empty: no IPv4."),
    TEXT(net_gateway, "net", "gateway", 40, "",
        "IPv4 router for other networks. Empty: what DHCP says, or none."),
    TEXT(net_address6, "net", "address6", 60, "auto",
        "auto (router advertisements), or an IPv6 address/64. Empty: only the link-local one."),
    NUMBER(net_http_port, "net", "http_port", 0, 65535, "0", "TCP port",
        "Plain HTTP, where keys can be read on the wire. 0: none."),
    NUMBER(net_https_port, "net", "https_port", 0, 65535, "443", "TCP port",
        "HTTPS. 0: none."),
    TEXT(net_tls_certificate, "net", "tls_certificate", CONF_TEXT_MAX - 1, "",
        "Certificate of https_port with its chain, PEM. Read again on SIGHUP. Here and in the next "
        "three, credential:NAME is what systemd's LoadCredential=NAME:FILE passes."),
    TEXT(net_tls_key, "net", "tls_key", CONF_TEXT_MAX - 1, "",
        "Private key of the certificate, PEM. Read again on SIGHUP."),
    TEXT(net_tls_client_ca, "net", "tls_client_ca", CONF_TEXT_MAX - 1, "",
        "Clients must have a certificate signed by one of these, PEM. Empty: none is asked for."),
    TEXT(net_keys, "net", "keys", CONF_TEXT_MAX - 1, KEYS_PATH,
        "Who may use the port: see expertctl key. Read again on SIGHUP."),
    WORD(net_allow_anonymous, "net", "allow_anonymous", no_yes_words, "no", RESTART,
        "yes: requests without a key are served, too."),
    TEXT(net_cors_origins, "net", "cors_origins", CONF_TEXT_MAX - 1, "",
        "Web pages that may call from a browser: origins (https://chat.example.org), or *."),

    NUMBER(limits_requests_max, "limits", "requests_max", 1, 4096, "64", "requests",
        "Requests that wait or run; one more is answered 503 with Retry-After."),
    NUMBER(limits_sequences_max, "limits", "sequences_max", 1, 512, "8", "sequences",
        "Answers that are computed together. Each has KV memory for its context."),
    NUMBER(limits_kv_tokens_max, "limits", "kv_tokens_max", 0, 1u << 30, "0", "tokens",
        "KV memory over all sequences. 0: sequences_max times context_max."),
    NUMBER(limits_batch_rows_max, "limits", "batch_rows_max", 4, 2048, "256", "rows",
        "Tokens of one step through the model, prompts included."),
    NUMBER(limits_prefill_rows_max, "limits", "prefill_rows_max", 1, 2048, "64", "rows",
        "Prompt tokens of a step that also continues other answers: smaller keeps those fluent, "
        "larger starts the new one sooner. At most batch_rows_max."),
    NUMBER(limits_prompt_tokens_max, "limits", "prompt_tokens_max", 0, 1u << 24, "0", "tokens",
        "All prompts of one request together. 0: context_max, at least 65536."),
    BYTES(limits_body_bytes_max, "limits", "body_bytes_max", 1024, 1ull << 30, "8M", RELOAD,
        "Body of a request; more is answered 413."),
    BYTES(limits_unsent_bytes_max, "limits", "unsent_bytes_max", 16384, 1ull << 30, "1M", RELOAD,
        "Bytes of a stream that the client has not read; more ends its request."),
    NUMBER(limits_connections_max, "limits", "connections_max", 1, 16384, "256", "connections",
        "Connections at once. At the limit the one that idles longest makes room."),
    NUMBER(limits_connections_per_address_max, "limits", "connections_per_address_max", 1, 16384, "64",
        "connections", "Connections of one address to the port."),
    COUNT(limits_requests_per_minute, "limits", "requests_per_minute", 0, KEYS_RATE_MAX, "0",
        "requests", RELOAD,
        "Of each key that has no rate of its own, and of all without a key together; more is "
        "answered 429 with Retry-After. 0: no limit."),
    COUNT(limits_requests_per_key_max, "limits", "requests_per_key_max", 0, KEYS_CONCURRENCY_MAX, "0",
        "requests", RELOAD, "Requests of one key at once; more is answered 429. 0: no limit."),
    TIME(limits_header_timeout, "limits", "header_timeout", SECOND / 10, DAY, "10s", RELOAD,
        "For the head of a request to arrive."),
    TIME(limits_body_timeout, "limits", "body_timeout", SECOND / 10, DAY, "60s", RELOAD,
        "For the body of a request to arrive after its head."),
    TIME(limits_idle_timeout, "limits", "idle_timeout", SECOND / 10, DAY, "75s", RELOAD,
        "A connection between requests, or one that does not take its answer, is closed."),
    TIME(limits_keep_alive, "limits", "keep_alive", SECOND / 10, DAY, "10s", RELOAD,
        "A stream that has nothing to say sends a comment this often."),

    WORD(sandbox_filter, "sandbox", "filter", filter_words, "deny", RESTART,
        "System calls that are not needed once the model is loaded: deny refuses them, log lets them "
        "through and has the kernel log them (for drivers that want more), off does neither."),

    WORD(log_level, "log", "level", level_words, "info", RELOAD,
        "Least urgent messages that are logged."),
    WORD(log_requests, "log", "requests", requests_words, "summary", RELOAD,
        "summary logs one line a request: status, tokens, times. Never its text."),
};
// clang-format on
const uint32_t conf_opts_n = sizeof(conf_opts) / sizeof(conf_opts[0]);
