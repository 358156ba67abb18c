// SPDX-License-Identifier: BSL-1.0
// PCI functions and other registers mapped by Linux without vfio: /sys, uio, device files, /dev/mem.
#pragma once

#include <phasebit/backend/mmio_linux/device_mapping.hpp>
#include <phasebit/backend/mmio_linux/dma_pool.hpp>
#include <phasebit/backend/mmio_linux/function.hpp>
#include <phasebit/backend/mmio_linux/open.hpp>
#include <phasebit/backend/mmio_linux/pagemap.hpp>
#include <phasebit/backend/mmio_linux/pci_resources.hpp>
#include <phasebit/backend/mmio_linux/system_paths.hpp>
#include <phasebit/backend/mmio_linux/udmabuf.hpp>
#include <phasebit/backend/mmio_linux/uio_device.hpp>
#include <phasebit/backend/mmio_linux/uio_interrupt.hpp>
