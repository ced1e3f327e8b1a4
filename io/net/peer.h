// SPDX-License-Identifier: MIT
// peer: is the other end of a loopback TCP connection still there?  A FIN alone does not tell a
// client that left from one that only stopped sending; the kernel, which holds both ends, knows:
// an end that no process has open any more belongs to no inode.
#pragma once
#include <stdbool.h>

// peer_gone asks the kernel (sock_diag(7)) about the other end of fd.
// Returns true if no process has it open; false if one has, or if the kernel cannot be asked.
bool peer_gone(int fd);
