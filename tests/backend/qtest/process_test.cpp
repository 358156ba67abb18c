// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/qtest/launch.hpp>
#include <phasebit/backend/qtest/machine.hpp>
#include <phasebit/backend/qtest/process.hpp>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit::backend::qtest;

namespace {

posix::unique_fd new_log() {
  auto log = memory_file("log", 0);
  REQUIRE(log);
  return std::move(*log);
}

// Waits for its own end, without a limit of its own.
void join(process& p) {
  while (!p.exit_status()) ::usleep(1000);
}

std::string text(const error& e) {
  std::array<char, 256> out{};
  return std::string{e.message(out)};
}

// A file that is there for the length of a test.
struct file {
  std::string path = "/tmp/phasebit-image-XXXXXX";
  explicit file(std::size_t bytes) {
    const int fd = ::mkstemp(path.data());
    REQUIRE(fd >= 0);
    REQUIRE(::ftruncate(fd, static_cast<::off_t>(bytes)) == 0);
    ::close(fd);
  }
  ~file() { ::unlink(path.c_str()); }
};

}  // namespace

TEST_CASE("a program's words and its exit status are known afterwards") {
  const auto log = new_log();
  auto p = process::start("/bin/sh", {"-c", "echo out; echo 'err, the last line' >&2; exit 3"},
                          log.get(), {});
  REQUIRE(p);
  CHECK(p->pid() > 0);
  join(*p);
  CHECK(p->pid() > 0);
  CHECK(p->exit_status() == 3);
  p->stop(0);
  CHECK(p->pid() == -1);
  CHECK(p->exit_status() == 3);
  CHECK(log_tail(log.get()).view() == "out err, the last line");
}

TEST_CASE("the end of a long log is quoted") {
  const auto log = new_log();
  CHECK(log_tail(log.get()).empty());
  auto p = process::start(
      "/bin/sh", {"-c", "i=0; while [ $i -lt 999 ]; do echo $i; i=$((i+1)); done; echo the end"},
      log.get(), {});
  REQUIRE(p);
  join(*p);
  CHECK(log_tail(log.get()).view().ends_with("997 998 the end"));
  CHECK(log_tail(log.get()).view().size() == error_subject::capacity);
}

TEST_CASE("a child gets the descriptors that it was promised, whatever their numbers here") {
  const auto log = new_log();
  std::vector<posix::unique_fd> files;
  std::vector<inherited_fd> shared;
  for (int i = 0; i != 8; ++i) {
    files.push_back(new_log());
    const std::string text = "file" + std::to_string(i) + "\n";
    REQUIRE(posix::write_full(files.back().get(), std::as_bytes(std::span<const char>{text})));
    REQUIRE(::lseek(files.back().get(), 0, SEEK_SET) == 0);
  }
  // Crossed on purpose: the numbers here are each other's numbers there.
  for (std::size_t i = 0; i != 6; ++i) {
    shared.push_back({files[i].get(), static_cast<int>(3 + (5 - i))});
  }
  auto p =
      process::start("/bin/sh", {"-c", "cat <&8 <&3; cat <&8; cat <&7; cat <&4; ls /proc/self/fd"},
                     log.get(), shared);
  REQUIRE(p);
  join(*p);
  const std::string said{log_tail(log.get()).view()};
  CHECK(said.starts_with("file5 file0 file1 file4 "));
  CHECK(said.find("64") == std::string::npos);
}

TEST_CASE("stopping asks first, and kills what does not listen") {
  const auto log = new_log();
  auto polite = process::start("/bin/sh", {"-c", "sleep 1000"}, log.get(), {});
  REQUIRE(polite);
  polite->stop(20'000);
  CHECK(polite->exit_status() == 128 + SIGTERM);

  auto deaf = process::start(
      "/bin/sh", {"-c", "trap '' TERM; echo deaf; while :; do sleep 0.01; done"}, log.get(), {});
  REQUIRE(deaf);
  while (log_tail(log.get()).empty()) ::usleep(1000);
  deaf->stop(50);
  CHECK(deaf->exit_status() == 128 + SIGKILL);
}

TEST_CASE("the end of an owner is the end of the process, also by assignment") {
  const auto log = new_log();
  ::pid_t first = 0;
  ::pid_t second = 0;
  {
    auto a = process::start("/bin/sleep", {"1000"}, log.get(), {});
    auto b = process::start("/bin/sleep", {"1000"}, log.get(), {});
    REQUIRE(a);
    REQUIRE(b);
    first = a->pid();
    second = b->pid();
    *a = std::move(*b);
    CHECK(::kill(first, 0) != 0);
    CHECK(::kill(second, 0) == 0);
  }
  CHECK(::kill(second, 0) != 0);
}

TEST_CASE("a program that is not there is an error, not a child") {
  const auto log = new_log();
  const auto p = process::start("/nowhere/at/all", {}, log.get(), {});
  REQUIRE_FALSE(p);
  CHECK(p.error().code == errc::not_found);
  CHECK(find_program("sh"));
  CHECK(find_program("/bin/sh") == std::string{"/bin/sh"});
  CHECK_FALSE(find_program("/bin/no-such-program"));
  CHECK_FALSE(find_program("no-such-program-anywhere"));
}

TEST_CASE("what a process started ends with it, even when it is killed") {
  // The orphan of our child becomes ours, so that its end can be seen.
  REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const ::pid_t middle = ::fork();
  if (middle == 0) {
    auto log = memory_file("log", 0);
    if (!log) ::_exit(1);
    auto victim = process::start("/bin/sleep", {"1000"}, log->get(), {});
    auto watch = guardian::watch(victim->pid(), log->get());
    const ::pid_t pid = victim && watch ? victim->pid() : 0;
    if (::write(ends[1], &pid, sizeof pid) != sizeof pid) ::_exit(1);
    ::raise(SIGKILL);
  }
  ::pid_t victim = 0;
  REQUIRE(::read(ends[0], &victim, sizeof victim) == sizeof victim);
  ::close(ends[0]);
  ::close(ends[1]);
  int status = 0;
  CHECK(::waitpid(middle, &status, 0) == middle);
  REQUIRE(victim > 0);
  CHECK(::waitpid(victim, &status, 0) == victim);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
  while (::waitpid(-1, &status, WNOHANG) > 0) {
  }
  REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
}

TEST_CASE("errors that need no QEMU are found before it starts") {
  const file good{1 << 20};
  const file small{100};
  const auto refusal = [](const options& o) {
    const auto m = machine::start(o);
    REQUIRE_FALSE(m);
    return m.error();
  };
  // A program that is there, so that the images are looked at.
  const options base{.program = "/bin/false"};
  options o = base;
  o.drives = {{"d0", "/nowhere/disk.img"}};
  CHECK(refusal(o).code == errc::not_found);
  CHECK(text(refusal(o)).starts_with("/nowhere/disk.img: "));
  o.drives = {{"d0", small.path}};
  CHECK(refusal(o).code == errc::out_of_range);
  CHECK(refusal(o).value == 100);
  o.drives = {{"d0", "/tmp"}};
  CHECK(refusal(o).code == errc::invalid_argument);
  o = base;
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{1} << 20, (std::uint64_t{64} << 20) + 4096}) {
    o.memory_bytes = bytes;
    CHECK(refusal(o).code == errc::invalid_argument);
  }
  o = base;
  o.program = "no-such-qemu";
  CHECK(refusal(o).code == errc::not_found);
  CHECK(text(refusal(o)).find("no-such-qemu") != std::string::npos);
  o = base;
  o.drives = {{"d0", good.path}};
  CHECK(refusal(o).code == errc::io);  // /bin/false ends at once
  CHECK(refusal(o).value == 1);
}

TEST_CASE("a QEMU without output ends in a time-out") {
  options o{.program = "/bin/sh"};
  const file script{0};
  std::ofstream{script.path} << "#!/bin/sh\nexec sleep 1000\n";
  REQUIRE(::chmod(script.path.c_str(), 0700) == 0);
  o.program = script.path;
  o.answer_timeout_ms = 50;
  const auto m = machine::start(o);
  REQUIRE_FALSE(m);
  CHECK(m.error().code == errc::timed_out);
}

TEST_CASE("a comma in the name of an image is no end of an option") {
  CHECK(backend::qtest::detail::escaped("a,b,,c") == "a,,b,,,,c");
  options o{.drives = {{"d0", "/x,y", "raw", true}}, .devices = {"nvme,drive=d0"}};
  const auto line = backend::qtest::detail::command_line(o);
  CHECK(std::find(line.begin(), line.end(), "if=none,id=d0,format=raw,readonly=on,file=/x,,y") !=
        line.end());
  CHECK(line.back() == "nvme,drive=d0");
}
