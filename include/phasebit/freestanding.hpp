// SPDX-License-Identifier: BSL-1.0
// Everything that needs no operating system, no heap and no exceptions: layers 0 to 3. Whoever
// cares for compile time includes the headers of the rooms instead; each stands alone.
#pragma once

#include <phasebit/config.hpp>
#include <phasebit/core/address.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/mapped_bar.hpp>
#include <phasebit/pcie/requester_id.hpp>
#include <phasebit/version.hpp>
