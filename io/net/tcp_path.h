// SPDX-License-Identifier: MIT
// tcp_path: to which MAC address the segments of a connection go: the one that its SYN came from,
// as long as the peer goes on to send from there.  lwIP's own tables have ten neighbours in
// Debian's build, so the eleventh machine of a network would cost an ARP or ND exchange a segment.
//
// Whoever forges a SYN of addresses and ports that are in use changes nothing; a path that was not
// confirmed for half a minute is forgotten, and ARP or ND decide, as they do for all else.
// Pure: no lwIP, no clock.  Owner: the net thread.
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct tcp_paths; // opaque

// tcp_paths_create makes room for n connections or more; -ENOMEM.
int tcp_paths_create(uint32_t n, struct tcp_paths **ret);
void tcp_paths_destroy(struct tcp_paths **paths);

// tcp_path_seen: a segment of the connection `key` (a hash with a secret of its addresses and
// ports) came from mac.  syn: it asks for a connection.
void tcp_path_seen(struct tcp_paths *paths, uint64_t key, const uint8_t mac[6], bool syn,
                   uint32_t now_ms);
// tcp_path_find returns the MAC address [6], or NULL.
const uint8_t *tcp_path_find(const struct tcp_paths *paths, uint64_t key, uint32_t now_ms);
