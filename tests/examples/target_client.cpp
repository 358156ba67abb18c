// SPDX-License-Identifier: BSL-1.0
// Fills the first namespace behind a vfio-user server with bytes of a seed, reads them back and compares.
// Usage: target_client SOCKET SEED NAMESPACES
#include <phasebit/hosted/format.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/transport/vfio_user/client.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

#include <fmt/core.h>

using namespace phasebit;

namespace {

result<> run(const char* path, std::uint32_t seed, std::uint32_t namespaces) {
  auto socket = posix::connect_unix(path);
  if (!socket) return socket.error();
  auto function = transport::vfio_user::client::connect(std::move(*socket));
  if (!function) return function.error();
  auto controller = nvme::attach(*function);
  if (!controller) return controller.error();
  std::mt19937 random{seed};
  for (std::uint32_t nsid = 1; nsid <= namespaces; ++nsid) {
    auto disk = nvme::open_disk(*controller, {.nsid = nsid});
    if (!disk) return disk.error();
    std::vector<std::byte> wanted(static_cast<std::size_t>(disk->info().bytes()));
    for (std::byte& b : wanted) b = static_cast<std::byte>(random());
    const std::size_t part = std::size_t{96} << 10;
    for (std::size_t at = 0; at < wanted.size(); at += part) {
      const auto bytes = std::span{wanted}.subspan(at).first(std::min(part, wanted.size() - at));
      const auto written = disk->write(at >> disk->info().block_shift, bytes);
      if (!written) return written;
    }
    if (const auto flushed = disk->flush(); !flushed) return flushed;
    std::vector<std::byte> read(wanted.size());
    if (const auto got = disk->read(0, read); !got) return got;
    if (read != wanted) return failure(errc::io, "reads other data than it wrote", nsid);
    fmt::print("{} bytes in namespace {}\n", read.size(), nsid);
  }
  return controller->shut_down();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const auto done = run(argv[1], static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 0)),
                        static_cast<std::uint32_t>(std::strtoul(argv[3], nullptr, 0)));
  if (done) return 0;
  fmt::print(stderr, "target_client: {}\n", done.error());
  return 1;
}
