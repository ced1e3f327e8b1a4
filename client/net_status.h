// SPDX-License-Identifier: MIT
// net_status: the port as /metrics tells of it: link, addresses, frames, drops, connections, TLS.
#pragma once
#include "client/client.h"

// net_status asks the daemon and prints.  Returns the exit status.
int net_status(struct client *client);
