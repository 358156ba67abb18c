// SPDX-License-Identifier: BSL-1.0
// Physical region pages: built by a driver, walked by a device.
#pragma once

#include <phasebit/nvme/prp/build.hpp>
#include <phasebit/nvme/prp/list_writer.hpp>
#include <phasebit/nvme/prp/types.hpp>
