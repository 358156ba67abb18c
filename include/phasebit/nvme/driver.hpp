// SPDX-License-Identifier: BSL-1.0
// The driver side of NVMe: attach to a controller, create queue pairs, open disks. The names that programs use
// are members of phasebit::nvme as well.
#pragma once

#include <phasebit/nvme/driver/admin_session.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/disk.hpp>
#include <phasebit/nvme/driver/entry_store.hpp>
#include <phasebit/nvme/driver/namespace_info.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/driver/quirks.hpp>
#include <phasebit/nvme/driver/request_queue.hpp>
#include <phasebit/nvme/driver/retry.hpp>
#include <phasebit/nvme/driver/split.hpp>
#include <phasebit/nvme/driver/wait.hpp>

namespace phasebit::nvme {

using driver::attach;
using driver::completion;
using driver::completion_callback;
using driver::controller;
using driver::controller_options;
using driver::disk;
using driver::disk_options;
using driver::namespace_info;
using driver::open_disk;
using driver::queue_options;
using driver::queue_pair;
using driver::request;
using driver::request_queue;
using driver::submit_status;
using driver::submitted;
using driver::tokens;
using driver::wait;

}  // namespace phasebit::nvme
