// SPDX-License-Identifier: MIT
#include "client/net_status.h"

#include "client/digest.h"
#include "client/metrics.h"
#include "client/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INFO "expertd_net_info"

// label_get copies the value of one label; "" if there is none.  Values of ours need no unescaping.
static void label_get(const char *labels, size_t len, const char *name, char *ret, size_t ret_bytes)
{
    size_t name_len = strlen(name);
    ret[0] = '\0';
    for (const char *at = labels, *end = labels + len; at < end;) {
        const char *quote = memchr(at, '"', (size_t)(end - at));
        const char *close = quote ? memchr(quote + 1, '"', (size_t)(end - quote - 1)) : NULL;
        if (!close)
            return;
        if ((size_t)(quote - at) == name_len + 1 && memcmp(at, name, name_len) == 0) {
            snprintf(ret, ret_bytes, "%.*s", (int)(close - quote - 1), quote + 1);
            return;
        }
        at = close + 1 + (close + 1 < end); // the comma
    }
}

// sample_find finds the first sample of a name.
static bool sample_find(const char *text, const char *wanted, const char **ret_labels,
                        size_t *ret_labels_len)
{
    const char *name;
    size_t name_len;
    double value;
    while (metrics_next(&text, &name, &name_len, ret_labels, ret_labels_len, &value))
        if (name_len == strlen(wanted) && memcmp(name, wanted, name_len) == 0 && *ret_labels)
            return true;
    return false;
}

static void addresses_print(const struct client *client, const char *labels, size_t len)
{
    static const char *const names[][2] = {
        {"mac", "MAC"}, {"address", "IPv4"}, {"address6", "IPv6"}, {"address6_link", "link-local"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char value[64];
        label_get(labels, len, names[i][0], value, sizeof(value));
        digest_line(client, names[i][1], value[0] ? value : "none");
    }
}

// drops_print lists what was dropped, by kind.
static void drops_print(const struct client *client, const char *text)
{
    static const char dropped[] = "expertd_net_dropped", kind[] = "kind";
    char line[512] = "", word[64];
    const char *name, *labels;
    size_t name_len, labels_len, used = 0;
    double value;
    while (metrics_next(&text, &name, &name_len, &labels, &labels_len, &value)) {
        if (name_len != strlen(dropped) || memcmp(name, dropped, name_len) != 0 || !labels ||
            value <= 0)
            continue;
        label_get(labels, labels_len, kind, word, sizeof(word));
        int n = snprintf(line + used, sizeof(line) - used, "%s%.0f %s", used > 0 ? ", " : "", value,
                         word);
        if (n > 0 && (size_t)n < sizeof(line) - used)
            used += (size_t)n;
    }
    digest_line(client, "dropped", used > 0 ? line : "nothing");
}

static void port_print(const struct client *client, const char *text, const char *labels,
                       size_t labels_len)
{
    char line[256], port[80], driver[40];
    double mbits = digest_number(text, "expertd_net_link_mbits", NULL);
    label_get(labels, labels_len, "port", port, sizeof(port));
    label_get(labels, labels_len, "driver", driver, sizeof(driver));
    snprintf(line, sizeof(line), "%s (%s), link %s", port, driver,
             digest_number(text, "expertd_net_link_up", NULL) > 0 ? "up" : "down");
    if (mbits > 0)
        snprintf(line + strlen(line), sizeof(line) - strlen(line), ", %.0f Mbit/s", mbits);
    digest_line(client, "port", line);
    addresses_print(client, labels, labels_len);
    snprintf(line, sizeof(line),
             "%.0f in (%.2f MB), %.0f out (%.2f MB); %.0f in and %.0f out missed",
             digest_number(text, "expertd_net_frame", "direction=\"rx\""),
             digest_number(text, "expertd_net_bytes", "direction=\"rx\"") / 1e6,
             digest_number(text, "expertd_net_frame", "direction=\"tx\""),
             digest_number(text, "expertd_net_bytes", "direction=\"tx\"") / 1e6,
             digest_number(text, "expertd_net_missed", "direction=\"rx\""),
             digest_number(text, "expertd_net_missed", "direction=\"tx\""));
    digest_line(client, "frames", line);
    drops_print(client, text);
    snprintf(line, sizeof(line), "%.0f open, %.0f half-open, %.0f closing; %.0f refused",
             digest_number(text, "expertd_net_connection", "state=\"open\""),
             digest_number(text, "expertd_net_connection", "state=\"half-open\""),
             digest_number(text, "expertd_net_connection", "state=\"time-wait\""),
             digest_number(text, "expertd_net_refused", NULL));
    digest_line(client, "connections", line);
    snprintf(line, sizeof(line), "%.0f handshakes, %.0f resumed, %.0f failed, %.0f plain HTTP",
             digest_number(text, "expertd_net_tls", "event=\"handshake\""),
             digest_number(text, "expertd_net_tls", "event=\"resumed\""),
             digest_number(text, "expertd_net_tls", "event=\"failed\""),
             digest_number(text, "expertd_net_tls", "event=\"plain-http\""));
    digest_line(client, "TLS", line);
}

int net_status(struct client *client)
{
    struct fault fault = {0};
    unsigned status = 0;
    char *text = NULL;
    const char *labels;
    size_t len = 0, labels_len;
    int err = client_get(client, "/metrics", &status, &text, &len, &fault);
    if (!err && status != 200)
        err = reply_error_text(status, text, len, &fault);
    else if (!err && !sample_find(text, INFO, &labels, &labels_len))
        err = fault_set(&fault, ENODEV, "the daemon has no port: set [net] port (doc/network.md)");
    if (!err && client->options.json) {
        json_t *json = digest_json(text, "expertd_net_");
        client_print_json(json);
        json_decref(json);
    } else if (!err)
        port_print(client, text, labels, labels_len);
    free(text);
    return err ? client_complain(client, &fault) : EXIT_DONE;
}
