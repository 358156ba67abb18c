// SPDX-License-Identifier: BSL-1.0
// vhost-user against QEMU: our front end drives qemu-storage-daemon's disk, and SeaBIOS boots from ours.
#include <phasebit/backend/qtest/process.hpp>
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/transport/vhost_user/back_end.hpp>
#include <phasebit/transport/vhost_user/blk_device.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <support/skip.hpp>
#include <transport/vhost_user/disk.hpp>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit_test;
namespace qtest = phasebit::backend::qtest;
using virtio::blk::request_status;
using virtio::driver::add_status;

namespace {

// A directory for sockets and images, removed at the end.
struct work_folder {
  work_folder() {
    char name[] = "/tmp/phasebit-vhost-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  work_folder(const work_folder&) = delete;
  work_folder& operator=(const work_folder&) = delete;
  ~work_folder() {
    for (const char* file : {"image", "socket"}) ::unlink((path + "/" + file).c_str());
    ::rmdir(path.c_str());
  }
  std::string path;
};

std::string program(const char* name) {
  const auto found = qtest::find_program(name);
  if (!found) skip(std::string{name} + " is not installed");
  return *found;
}

}  // namespace

TEST_CASE("our front end reads, writes, discards and flushes a disk of qemu-storage-daemon") {
  const std::string daemon = program("qemu-storage-daemon");
  const work_folder folder;
  const std::string image = folder.path + "/image";
  const std::string socket = folder.path + "/socket";
  constexpr std::size_t bytes = 16 << 20;
  std::vector<std::byte> expected(bytes);
  std::mt19937 random{1};
  for (std::byte& b : expected) b = std::byte(random());
  posix::unique_fd file{::open(image.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  REQUIRE(::pwrite(file.get(), expected.data(), bytes, 0) == static_cast<::ssize_t>(bytes));

  auto log = qtest::memory_file("log", 0);
  REQUIRE(log);
  auto process = qtest::process::start(
      daemon,
      {"--blockdev", "driver=file,node-name=f,filename=" + image, "--blockdev",
       "driver=raw,node-name=r,file=f,discard=unmap", "--export",
       "type=vhost-user-blk,id=e,node-name=r,addr.type=unix,addr.path=" + socket +
           ",writable=on,num-queues=2"},
      log->get(), {});
  REQUIRE(process);
  result<vhost::front_end> front = failure(errc::not_ready, "not connected");
  for (int i = 0; i != 200 && !front; ++i) {
    front = vhost::front_end::connect(socket, 10'000);
    if (!front) ::usleep(50'000);
  }
  REQUIRE(front);
  const std::uint64_t wanted = virtio::feature::event_idx | virtio::feature::indirect_desc |
                               virtio::blk::feature::flush | virtio::blk::feature::discard |
                               virtio::blk::feature::write_zeroes | virtio::blk::feature::mq;
  REQUIRE(front->negotiate(wanted, virtio::feature::version_1));
  CHECK(*front->queue_count() == 2);
  virtio::blk::config config{};
  REQUIRE(front->read_config(0, writable_wire_bytes(config).first<60>()));
  CHECK(config.capacity == bytes / 512);

  shared_memory memory{32 << 20};
  REQUIRE(front->set_memory(shared_memory::base, memory.bytes(), memory.fd()));
  std::vector<std::unique_ptr<disk_queue<false>>> queues;
  for (std::uint16_t i = 0; i != 2; ++i) {
    queues.push_back(std::make_unique<disk_queue<false>>(memory, front->features()));
    queues[i]->start(*front, i);
  }
  const dma_region data = memory.take(bytes);
  // The whole disk in requests of 64 KiB of seven segments, over both queues.
  constexpr std::size_t each = 64 * 1024;
  for (std::size_t begin = 0; begin != bytes;) {
    std::array<std::size_t, 2> submitted{};
    for (std::size_t i = 0; i != 32 && begin != bytes; ++i, begin += each) {
      std::vector<virtio::driver::buffer_segment> parts;
      std::size_t at = 0;
      for (int n = 0; n != 6; ++n) {
        const std::size_t now = 1 + random() % 8000;
        parts.push_back({data.bus + (begin + at), now});
        at += now;
      }
      parts.push_back({data.bus + (begin + at), each - at});
      REQUIRE(queues[i % 2]->requests->read(begin / 512, parts, begin) == add_status::added);
      ++submitted[i % 2];
    }
    for (std::size_t q = 0; q != 2; ++q) {
      for (const auto& [token, status] : queues[q]->finish(submitted[q])) {
        CHECK(status == request_status::ok);
      }
    }
  }
  CHECK(std::memcmp(data.data(), expected.data(), bytes) == 0);

  // Writes, then what a second reader of the file finds after a flush.
  for (std::size_t i = 0; i != 100; ++i) {
    const std::size_t sector = random() % (bytes / 512 - 16);
    const std::size_t length = 512 * (1 + random() % 16);
    for (std::size_t n = 0; n != length; ++n) {
      expected[sector * 512 + n] = data.bytes[sector * 512 + n] = std::byte(random());
    }
    const virtio::driver::buffer_segment one[] = {{data.bus + sector * 512, length}};
    REQUIRE(queues[i % 2]->requests->write(sector, one, i) == add_status::added);
    CHECK(queues[i % 2]->finish(1)[0].second == request_status::ok);
  }
  auto& q = *queues[0];
  REQUIRE(q.requests->write_zeroes(1000, 64, false, 1) == add_status::added);
  REQUIRE(q.requests->flush(2) == add_status::added);
  for (const auto& [token, status] : q.finish(2)) CHECK(status == request_status::ok);
  std::memset(&expected[1000 * 512], 0, 64 * 512);
  std::vector<std::byte> found(bytes);
  REQUIRE(::pread(file.get(), found.data(), bytes, 0) == static_cast<::ssize_t>(bytes));
  CHECK(found == expected);

  REQUIRE(q.requests->discard(2048, 2048, 3) == add_status::added);
  CHECK(q.finish(1)[0].second == request_status::ok);
  // Beyond the end: an error of the device, and the queue goes on.
  const virtio::driver::buffer_segment one[] = {{data.bus, 512}};
  REQUIRE(q.requests->read(bytes / 512, one, 4) == add_status::added);
  CHECK(q.finish(1)[0].second == request_status::io_error);
  REQUIRE(q.requests->read(bytes / 512 - 1, one, 5) == add_status::added);
  CHECK(q.finish(1)[0].second == request_status::ok);
  CHECK(*front->stop_queue(0) == *front->stop_queue(0));
  CHECK_FALSE(q.queue.last_fault());
}

TEST_CASE("SeaBIOS boots from our vhost-user disk") {
  const std::string qemu = program("qemu-system-x86_64");
  const work_folder folder;
  const std::string socket = folder.path + "/socket";
  // A boot sector that prints the text behind it on the serial port and ends QEMU with status 1.
  constexpr unsigned char code[] = {0xfc, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x1a, 0x7c, 0xba,
                                    0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb,
                                    0xf8, 0xb0, 0x00, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd};
  constexpr char text[] = "booted from phasebit";
  std::vector<std::byte> disk(1 << 20);
  std::memcpy(disk.data(), code, sizeof code);
  std::memcpy(disk.data() + sizeof code, text, sizeof text);
  disk[510] = std::byte{0x55};
  disk[511] = std::byte{0xaa};
  block::memory_media blocks{disk};
  using media_type = block::immediate_media<block::memory_media>;
  std::vector<media_type> media(2, media_type{blocks});
  vhost::blk_device<media_type> device{media, {}};

  auto listener = posix::listen_unix(socket);
  REQUIRE(listener);
  auto log = qtest::memory_file("log", 0);
  REQUIRE(log);
  auto process = qtest::process::start(qemu,
                                       {"-M",
                                        "q35",
                                        "-accel",
                                        "tcg",
                                        "-m",
                                        "64",
                                        "-display",
                                        "none",
                                        "-nodefaults",
                                        "-object",
                                        "memory-backend-memfd,id=m,size=64M,share=on",
                                        "-machine",
                                        "memory-backend=m",
                                        "-chardev",
                                        "socket,id=c,path=" + socket,
                                        "-device",
                                        "vhost-user-blk-pci,chardev=c,num-queues=2,bootindex=0",
                                        "-serial",
                                        "stdio",
                                        "-device",
                                        "isa-debug-exit,iobase=0xf4,iosize=1"},
                                       log->get(), {});
  REQUIRE(process);
  const auto ready = posix::wait_readable(listener->get(), 20'000);
  REQUIRE(ready);
  REQUIRE(*ready);
  auto accepted = posix::accept_unix(listener->get());
  REQUIRE(accepted);
  vhost::back_end<vhost::blk_device<media_type>> connection{device, std::move(*accepted)};
  device.set_log(&connection.log());
  const std::time_t end = std::time(nullptr) + 40;
  while (connection.state() == vhost::connection_state::open && std::time(nullptr) < end) {
    if (connection.poll() == 0) std::this_thread::yield();
  }
  CHECK(connection.state() == vhost::connection_state::closed);
  connection.close_down();
  while (!connection.closed_down()) connection.poll();
  CHECK_FALSE(device.needs_reset());
  std::array<char, 4096> output{};
  static_cast<void>(::pread(log->get(), output.data(), output.size() - 1, 0));
  CHECK(std::string{output.data()}.find(text) != std::string::npos);
}
