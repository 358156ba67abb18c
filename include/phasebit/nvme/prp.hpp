// SPDX-License-Identifier: BSL-1.0
// Physical region pages: built by a driver, walked by a device, rewritten by what stands between.
#pragma once

#include <phasebit/nvme/prp/build.hpp>
#include <phasebit/nvme/prp/list_reader.hpp>
#include <phasebit/nvme/prp/list_writer.hpp>
#include <phasebit/nvme/prp/rewrite.hpp>
#include <phasebit/nvme/prp/types.hpp>
#include <phasebit/nvme/prp/walk.hpp>
