// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/vfio_user.md.
#pragma once

#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vfio_user/client.hpp>
#include <phasebit/transport/vfio_user/nvme_device.hpp>
#include <phasebit/transport/vfio_user/server.hpp>

namespace vfu = phasebit::transport::vfio_user;
using spaces = phasebit::nvme::device::single_namespace<phasebit::block::memory_media>;

extern spaces namespaces;
extern phasebit::nvme::device::settings settings;
extern phasebit::posix::unique_fd connection;
extern bool running;
