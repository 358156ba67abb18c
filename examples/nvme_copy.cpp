// SPDX-License-Identifier: BSL-1.0
// Copies a namespace to a file, or a file to a namespace. Both have the same size, or nothing is done. Of a
// namespace with metadata the data alone is copied, unless --metadata names a file for it.
#include "support/open_disk.hpp"
#include "support/progress.hpp"
#include "support/run_main.hpp"
#include "support/stop_signal.hpp"
#include "support/units.hpp"

#include <phasebit/hosted/file_media.hpp>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace phasebit;
using namespace example;

namespace {

struct copy_options {
  backend_options disk;
  std::string to;
  std::string from;
  std::string metadata;  // the file of the blocks' metadata; empty: data alone
  std::uint32_t nsid = 1;
  std::uint64_t chunk = std::uint64_t{1} << 20;
  double timeout = 10;
};

[[nodiscard]] result<> in_words(block::media_status status, const std::string& path) {
  if (status == block::media_status::good) return {};
  return failure(errc::io, "the file could not be read or written to its end").of(path);
}

// The other end of the copy, exactly as long as the namespace.
[[nodiscard]] result<hosted::file_media> open_file(const copy_options& o,
                                                   const nvme::driver::namespace_info& ns) {
  const bool reads_it = !o.from.empty();
  const std::string& path = reads_it ? o.from : o.to;
  const hosted::file_media_options how{.block_size = ns.block_bytes, .read_only = reads_it};
  if (!reads_it && !std::filesystem::exists(path)) {
    return hosted::file_media::create(path, ns.bytes(), how);
  }
  // For a device file the file system has no size; its end is checked below.
  if (std::filesystem::is_regular_file(path) && std::filesystem::file_size(path) != ns.bytes()) {
    return failure(errc::out_of_range,
                   reads_it ? "the file and the namespace differ in size; the namespace's bytes"
                            : "the file is there already and differs in size from the namespace: "
                              "remove it first; the namespace's bytes",
                   ns.bytes())
        .of(path);
  }
  auto file = hosted::file_media::open(path, how);
  if (file && file->block_count() != ns.blocks) {
    return failure(errc::out_of_range,
                   "the device and the namespace differ in size; the namespace's bytes", ns.bytes())
        .of(path);
  }
  return file;
}

[[nodiscard]] result<> copy(hosted::any_disk& disk, const copy_options& o) {
  const nvme::driver::namespace_info& ns = disk.info();
  auto file = open_file(o, ns);
  if (!file) return file.error();

  const bool to_file = o.from.empty();
  const std::string& path = to_file ? o.to : o.from;
  std::vector<std::byte> buffer(std::max<std::size_t>(o.chunk, ns.block_bytes));
  std::vector<std::byte> tuples;
  std::fstream metadata;
  if (!o.metadata.empty()) {
    if (ns.metadata_bytes == 0) {
      return failure(errc::not_supported, "the namespace has no metadata", ns.nsid);
    }
    metadata.open(o.metadata, std::ios::binary | (to_file ? std::ios::out : std::ios::in));
    if (!metadata) return failure(errc::io, "the file cannot be opened").of(o.metadata);
    tuples.resize((buffer.size() >> ns.block_shift) * ns.metadata_bytes);
  }
  progress_line progress;
  for (std::uint64_t lba = 0; lba != ns.blocks;) {
    if (stop_requested()) {
      progress.clear();
      return stopped_by_signal(to_file ? "the file holds the beginning of the namespace"
                                       : "the namespace holds the beginning of the file");
    }
    const std::uint64_t blocks = std::min(ns.blocks - lba, buffer.size() >> ns.block_shift);
    const auto part = std::span{buffer}.first(blocks << ns.block_shift);
    const auto beside = std::span{tuples}.first(
        tuples.empty() ? 0 : static_cast<std::size_t>(blocks) * ns.metadata_bytes);
    if (!beside.empty()) {
      auto* const text = reinterpret_cast<char*>(beside.data());
      const auto count = static_cast<std::streamsize>(beside.size());
      if (to_file) {
        if (const auto read = disk.read(lba, part, beside); !read) return read;
        metadata.write(text, count);
        if (const auto written = in_words(file->write(lba, part), path); !written) return written;
      } else {
        metadata.read(text, count);
        if (const auto read = in_words(file->read(lba, part), path); !read) return read;
        if (metadata) {
          if (const auto written = disk.write(lba, part, beside); !written) return written;
        }
      }
      if (!metadata) {
        return failure(errc::io, "the file could not be read or written to its end").of(o.metadata);
      }
    } else if (to_file) {
      if (const auto read = disk.read(lba, part); !read) return read;
      if (const auto written = in_words(file->write(lba, part), path); !written) return written;
    } else {
      if (const auto read = in_words(file->read(lba, part), path); !read) return read;
      if (const auto written = disk.write(lba, part); !written) return written;
    }
    lba += blocks;
    progress.show([&] {
      return fmt::format("{} of {} ({} %)", size_text(lba << ns.block_shift), size_text(ns.bytes()),
                         lba * 100 / ns.blocks);
    });
  }
  progress.clear();
  const auto flushed = to_file ? in_words(file->flush(), path) : disk.flush();
  if (!flushed) return flushed;
  fmt::print("copied {} {} {}\n", size_text(ns.bytes()), to_file ? "to" : "from", path);
  return {};
}

[[nodiscard]] result<> run(const copy_options& o) {
  auto disk = open_disk(o.disk, o.nsid, static_cast<std::uint32_t>(o.timeout * 1000));
  if (!disk) return disk.error();
  const auto copied = copy(*disk, o);
  if (!copied) {
    // A QEMU that died looks like a device that was pulled out; check() reports which.
    if (const auto alive = disk->check(); !alive) return alive;
  }
  if (const auto closed = disk->shut_down(); !closed) {
    fmt::print(stderr, "nvme_copy: warning: {}\n", closed.error());
  }
  return copied;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Copies a namespace to a file, or a file to a namespace, whole", "nvme_copy"};
  copy_options options;
  auto* const direction = app.add_option_group("Direction", "One of the two");
  direction->add_option("--to", options.to, "Copy the namespace to this file")->type_name("FILE");
  direction->add_option("--from", options.from, "Copy this file to the namespace")
      ->type_name("FILE");
  direction->require_option(1);
  app.add_option("--metadata", options.metadata,
                 "Copy the metadata of all blocks to or from this file as well")
      ->type_name("FILE");
  app.add_option("--nsid", options.nsid, "Namespace")->type_name("N")->capture_default_str();
  add_size_option(app, "--chunk", options.chunk, "Bytes copied at a time", 512,
                  std::uint64_t{64} << 20)
      ->default_str("1M");
  app.add_option("--timeout", options.timeout, "Seconds after which a command is given up")
      ->check(CLI::Range(0.2, 3'600.0).description(""))
      ->type_name("S")
      ->capture_default_str();
  add_backend_options(app, options.disk);
  return run_main(app, argc, argv, [&] {
    handle_stop_signals();
    options.disk.read_only = options.from.empty();
    return run(options);
  });
}
