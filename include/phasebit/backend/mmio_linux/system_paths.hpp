// SPDX-License-Identifier: BSL-1.0
// Paths of the kernel's files, and its restrictions.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <string>
#include <string_view>

namespace phasebit::backend::mmio_linux {

// Another root than / is for containers, and for tests.
struct system_paths {
  std::string sys = "/sys";
  std::string dev = "/dev";
  std::string proc = "/proc";
};

// Whether the kernel is locked down: it then refuses even root what this backend does.
[[nodiscard]] inline bool is_locked_down(const system_paths& paths) {
  const std::string state = posix::read_line(paths.sys + "/kernel/security/lockdown");
  return !state.empty() && state.find("[none]") == std::string::npos;
}

// `why`, with advice if the operating system refused permission.
[[nodiscard]] inline error explain(const error& why, const system_paths& paths,
                                   std::string_view subject) {
  if (why.code != errc::permission) return why.of(subject);
  if (is_locked_down(paths)) {
    return failure(errc::permission,
                   "the kernel is locked down (Secure Boot) and gives no program a device's "
                   "registers or physical memory: switch Secure Boot off, or use vfio")
        .of(subject);
  }
  return failure(errc::permission, "no permission: run it as root").of(subject);
}

}  // namespace phasebit::backend::mmio_linux
