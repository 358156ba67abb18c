// SPDX-License-Identifier: BSL-1.0
// A child process that shares files with its parent as inherited descriptors, so that no path is left
// behind, and that is ended by its own process id.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace phasebit::backend::qtest {

// A descriptor of ours and the number it has in the child.
struct inherited_fd {
  int ours;
  int theirs;
};

// An anonymous file of this size: shared memory, or a log.
[[nodiscard]] inline result<posix::unique_fd> memory_file(const char* name,
                                                          std::uint64_t bytes) noexcept {
  posix::unique_fd fd{::memfd_create(name, MFD_CLOEXEC)};
  if (!fd) return posix::os_error("memory that can be shared cannot be had");
  if (bytes != 0 && ::ftruncate(fd.get(), static_cast<::off_t>(bytes)) != 0) {
    return posix::os_error("the shared memory cannot be made so large").of(name);
  }
  return fd;
}

// The full path of `program` if it is one, or of the first executable of this name in PATH.
[[nodiscard]] inline std::optional<std::string> find_program(std::string_view program) noexcept {
  const auto executable = [](const std::string& path) { return ::access(path.c_str(), X_OK) == 0; };
  if (program.find('/') != std::string_view::npos) {
    std::string path{program};
    return executable(path) ? std::optional{path} : std::nullopt;
  }
  const char* const env = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): only read
  std::string_view remaining = env != nullptr ? env : "/usr/bin:/bin";
  while (!remaining.empty()) {
    const std::size_t colon = remaining.find(':');
    std::string path{remaining.substr(0, colon)};
    path.append("/").append(program);
    if (executable(path)) return path;
    remaining = colon == std::string_view::npos ? std::string_view{} : remaining.substr(colon + 1);
  }
  return std::nullopt;
}

// A child process. The destructor ends it and waits for its end. Move-only.
class process {
 public:
  process() noexcept = default;
  process(process&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), status_(std::exchange(other.status_, {})) {}
  process& operator=(process&& other) noexcept {
    if (this != &other) {
      stop(0);
      pid_ = std::exchange(other.pid_, -1);
      status_ = std::exchange(other.status_, {});
    }
    return *this;
  }
  ~process() { stop(0); }

  // Standard input is empty, both outputs go to `log`. Nothing else is inherited: descriptors of
  // this library are close-on-exec.
  [[nodiscard]] static result<process> start(const std::string& program,
                                             const std::vector<std::string>& arguments, int log,
                                             std::span<const inherited_fd> shared) noexcept {
    std::vector<char*> argv;
    argv.push_back(const_cast<char*>(program.c_str()));  // NOLINT: posix_spawn writes nothing
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));  // NOLINT
    argv.push_back(nullptr);

    // Sources above every target, so that no dup2 lands on one that is still to come.
    constexpr int above_targets = 64;
    std::vector<posix::unique_fd> copies;
    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, log, 1);
    ::posix_spawn_file_actions_adddup2(&actions, log, 2);
    int failed = 0;
    for (const inherited_fd& f : shared) {
      copies.emplace_back(::fcntl(f.ours, F_DUPFD_CLOEXEC, above_targets));
      if (!copies.back()) failed = errno;
      ::posix_spawn_file_actions_adddup2(&actions, copies.back().get(), f.theirs);
    }
    // The child starts with no signals blocked.
    ::posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);

    process child;
    if (failed == 0) {
      failed =
          ::posix_spawn(&child.pid_, program.c_str(), &actions, &attributes, argv.data(), environ);
    }
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) {
      child.pid_ = -1;
      return posix::os_error("the program cannot be started", failed).of(program);
    }
    return child;
  }

  // -1 once stop() has returned. Until then the id is not reused, even if the process has ended.
  [[nodiscard]] ::pid_t pid() const noexcept { return pid_; }

  // How it ended: its exit status, or 128 plus the signal, as in shells. Nothing while it runs.
  [[nodiscard]] std::optional<int> exit_status() const noexcept {
    if (status_) return status_;
    ::siginfo_t info{};
    // Left for stop() to reap, for until then its id stays taken.
    if (pid_ < 0 ||
        ::waitid(P_PID, static_cast<::id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
      return pid_ < 0 || errno == EINTR ? std::nullopt : std::optional{0};
    }
    if (info.si_pid == 0) return std::nullopt;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  }

  // Asks it to end, waits so long, then kills it and waits for that. For 0 it is killed at once.
  void stop(std::uint32_t milliseconds) noexcept {
    if (pid_ < 0) return;
    if (milliseconds != 0) {
      ::kill(pid_, SIGTERM);
      posix::steady_clock clock;
      (void)poll_until(clock, milliseconds * nanoseconds_per_ms, [&] {
        if (exit_status()) return true;
        ::usleep(500);
        return false;
      });
    }
    if (!exit_status()) ::kill(pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    pid_ = -1;
  }

 private:
  ::pid_t pid_ = -1;
  std::optional<int> status_;
};

// Ends `victim` when this process is gone without having ended it: its end of the pipe closes then.
// While this process lives, `victim` is its child and the id is not reused.
class guardian {
 public:
  guardian() noexcept = default;
  guardian(guardian&&) noexcept = default;
  guardian& operator=(guardian&& other) noexcept {
    shell_ = std::move(other.shell_);  // ends the old shell before its pipe closes
    alive_ = std::move(other.alive_);
    return *this;
  }

  [[nodiscard]] static result<guardian> watch(::pid_t victim, int log) noexcept {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return posix::os_error("a pipe cannot be made");
    guardian g;
    const posix::unique_fd theirs{ends[0]};
    g.alive_.reset(ends[1]);
    constexpr int number = 3;
    const std::array shared{inherited_fd{theirs.get(), number}};
    auto shell = process::start(
        "/bin/sh", {"-c", "trap '' INT TERM; read _ <&3; kill -9 " + std::to_string(victim)}, log,
        shared);
    if (!shell) return shell.error();
    g.shell_ = std::move(*shell);
    return g;
  }

 private:
  // The shell goes first (it is killed), then the pipe closes: it never acts while we are alive.
  posix::unique_fd alive_;
  process shell_;
};

// The end of what the program wrote, on one line; empty where it wrote nothing.
[[nodiscard]] inline error_subject log_tail(int log) noexcept {
  std::array<char, 2 * error_subject::capacity> text{};
  struct ::stat about {};
  if (::fstat(log, &about) != 0) return {};
  const auto kept = static_cast<::off_t>(text.size());
  const ::off_t from = about.st_size > kept ? about.st_size - kept : 0;
  const ::ssize_t got = ::pread(log, text.data(), text.size(), from);
  std::size_t end = got > 0 ? static_cast<std::size_t>(got) : 0;
  while (end != 0 && (text[end - 1] == '\n' || text[end - 1] == ' ')) --end;
  for (std::size_t i = 0; i != end; ++i) {
    if (static_cast<unsigned char>(text[i]) < ' ') text[i] = ' ';
  }
  return error_subject{std::string_view{text.data(), end}};
}

}  // namespace phasebit::backend::qtest
