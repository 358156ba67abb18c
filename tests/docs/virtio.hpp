// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/virtio.md take for granted.
#pragma once

#include <phasebit/phasebit.hpp>
#include <phasebit/virtio/device/split_queue.hpp>

#include <array>
