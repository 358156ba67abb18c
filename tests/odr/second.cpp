// SPDX-License-Identifier: BSL-1.0
#include "every_header_reversed.inc"

const void* version_seen_by_second();
const void* version_seen_by_second() { return &phasebit::version; }
