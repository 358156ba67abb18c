// SPDX-License-Identifier: BSL-1.0
// Prints an accel sequence before and after each rule of the optimizer, with the bytes it moves, and the
// plan's scratch. Needs no device.
//
//   accel_explain                      a remote write: copy, encrypt, DIF, copy
//   accel_explain --case parity        parity over two buffers of which one is zeros
//   accel_explain --case reorder       what only the search for the cheapest plan finds
//   accel_explain --svg plan.svg       the same as a picture
#include <phasebit/accel/plan.hpp>
#include <phasebit/accel/software_engine.hpp>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

using namespace phasebit;
using namespace phasebit::accel;

namespace {

using seq = sequence<16>;

std::string place(const domain_segment& s) {
  if (s.domain == scratch_domain) {
    const auto offset = scratch_offset_of(s.address);
    const char buffer = static_cast<char>('t' + scratch_buffer_of(s.address));
    return offset == 0 ? fmt::format("{}[{}]", buffer, s.bytes)
                       : fmt::format("{}[{}+{}]", buffer, offset, s.bytes);
  }
  if (s.domain == local_domain) return fmt::format("local {:#x}[{}]", s.address, s.bytes);
  if (s.domain.value >= max_domains) return fmt::format("result {}", s.address);
  return fmt::format("remote {:#x}[{}]", s.address, s.bytes);
}
std::string places(std::span<const domain_segment> list) {
  std::string text;
  for (const auto& s : list) text += (text.empty() ? "" : " + ") + place(s);
  return text;
}
std::vector<std::string> lines_of(const seq& s) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i != s.size(); ++i) {
    std::string text{name(s[i].op)};
    if (s[i].then != operation::none) text += fmt::format("+{}", name(s[i].then));
    const std::string from = places(s.sources(s[i]));
    const std::string to = places(s.destinations(s[i]));
    if (!from.empty()) text += "  " + from;
    if (!to.empty()) text += "  ->  " + to;
    lines.push_back(text);
  }
  return lines;
}

struct picture {
  std::string title;
  std::vector<std::string> lines;
  std::uint64_t bytes;
};

struct explainer {
  std::vector<picture>* pictures;
  void operator()(std::string_view rule, std::size_t, const seq& s) const {
    pictures->push_back({std::string{rule}, lines_of(s), bytes_moved(s)});
  }
};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '>' ? "&gt;" : c == '<' ? "&lt;" : std::string(1, c);
  return out;
}
std::string svg_of(const std::vector<picture>& pictures) {
  std::string body;
  int y = 10;
  for (const auto& p : pictures) {
    const int height = 30 + 20 * static_cast<int>(p.lines.size());
    body += fmt::format(
        "<rect x='10' y='{}' width='780' height='{}' fill='#f4f6f8' stroke='#456'/>\n"
        "<text x='20' y='{}' font-weight='bold'>{} ({} bytes moved)</text>\n",
        y, height, y + 20, escaped(p.title), p.bytes);
    int line = y + 40;
    for (const auto& text : p.lines) {
      body += fmt::format("<text x='40' y='{}'>{}</text>\n", line, escaped(text));
      line += 20;
    }
    y += height + 10;
  }
  return fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' width='800' height='{}' "
      "font-family='monospace' font-size='13'>\n{}</svg>\n",
      y, body);
}

bool build(seq& s, std::string_view which) {
  const domain_segment remote{0x1000, 4096, domain_id{2}};
  const domain_segment out{0x20000, 4160, local_domain};
  const domain_segment a{0x10000, 4096, local_domain};
  const domain_segment b{0x11000, 4096, local_domain};
  if (which == "write") {
    const auto t = *s.scratch(4096);
    const auto u = *s.scratch(4096);
    const auto v = *s.scratch(4160);
    return s.copy(t, remote) && s.encrypt(u, t, {}) && s.dif_insert(v, u, {}) && s.copy(out, v);
  }
  if (which == "parity") {
    const auto t = *s.scratch(4096);
    const std::vector<segment_list> sources{a, b};
    return s.zero(b) && s.exclusive_or(t, sources) && s.crc32c(t) &&
           s.copy(domain_segment{0x20000, 4096, local_domain}, t);
  }
  if (which == "reorder") {
    // No rule alone sees that b holds what a held: the search over values does.
    return s.zero(a) && s.zero(b) && s.encrypt(a, a, {});
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::string which = "write";
  std::string svg;
  CLI::App app{"Shows what the accel optimizer does to a sequence"};
  app.add_option("--case", which, "write, parity or reorder");
  app.add_option("--svg", svg, "also write a picture to this file");
  CLI11_PARSE(app, argc, argv);

  seq s;
  if (!build(s, which)) {
    fmt::print(stderr, "no such case: {}; there are write, parity and reorder\n", which);
    return 2;
  }
  if (const auto ok = s.check_scratch(); !ok) {
    fmt::print(stderr, "step {}: {}\n", ok.error().index, ok.error().what);
    return 1;
  }
  target where;
  where.reach &= ~target::bit(domain_id{2});
  where.pulls = target::bit(domain_id{2});
  where.fusions = software_fusions;

  std::vector<picture> pictures{{"as built", lines_of(s), bytes_moved(s)}};
  seq unplanned = s;
  const std::uint64_t scratch_before = assign_scratch(unplanned);
  const std::size_t steps_before = s.size();
  optimize(s, where, explainer{&pictures});
  if (search_plan(s, where)) {
    pictures.push_back({"search_plan", lines_of(s), bytes_moved(s)});
  }
  fuse(s, where, explainer{&pictures});
  const std::uint64_t scratch = assign_scratch(s);
  for (const auto& p : pictures) {
    fmt::print("{} ({} bytes moved)\n", p.title, p.bytes);
    for (const auto& line : p.lines) fmt::print("    {}\n", line);
  }
  fmt::print("steps {} -> {}, bytes moved {} -> {}, scratch {} -> {} bytes\n", steps_before,
             s.size(), pictures.front().bytes, pictures.back().bytes, scratch_before, scratch);
  if (!svg.empty()) {
    std::ofstream file{svg};
    file << svg_of(pictures);
    if (!file) {
      fmt::print(stderr, "{}: cannot be written\n", svg);
      return 1;
    }
  }
  return 0;
}
