// SPDX-License-Identifier: MIT
// net_thread: the front of the port.
#pragma once
#include "daemon/conf.h"
#include "io/net/port.h"

// net_params_fill says what the configuration asks of the port.
void net_params_fill(const struct conf *conf, struct port_params *ret);

// net_xdp says whether the port is one of af_xdp.
bool net_xdp(const struct conf *conf);

// net_credentials turns credential:NAME, where [net] takes the path of a secret, into
// $CREDENTIALS_DIRECTORY/NAME, which systemd makes of LoadCredential=.  -EINVAL naming the key if
// there is none.
int net_credentials(struct conf *conf, struct fault *fault);

// net_keys_lacking: nobody but anonymous clients could use the port.  -EACCES.
int net_keys_lacking(const char *path, bool missing, struct fault *fault);

// net_keys_check says whether the keys of the port can be read, and whether there is one: for
// --check-config.
int net_keys_check(const struct conf *conf, struct fault *fault);

// net_check says whether there is a port to be opened and whether it could be: texts, and files if
// wanted, no device.  -ENOTSUP where this program was built without one.
int net_check(const struct conf *conf, bool files, struct fault *fault);
