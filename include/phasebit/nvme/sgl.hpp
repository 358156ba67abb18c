// SPDX-License-Identifier: BSL-1.0
// Scatter gather lists: built by a driver, walked by a device, rewritten by what stands between.
#pragma once

#include <phasebit/nvme/sgl/build.hpp>
#include <phasebit/nvme/sgl/rewrite.hpp>
#include <phasebit/nvme/sgl/segment_writer.hpp>
#include <phasebit/nvme/sgl/types.hpp>
#include <phasebit/nvme/sgl/walk.hpp>
