// SPDX-License-Identifier: BSL-1.0
#include "every_header.inc"

const void* version_seen_by_second();

// An inline variable is one object in the whole program, whichever header order brought it in.
int main() { return version_seen_by_second() == &phasebit::version ? 0 : 1; }
