// text_corpus --out NAME.jsonl [--format auto] [--text_field text] FILE
//
// Makes the text that the trainer reads of a corpus as others publish it: one JSON object with "text" a line for each
// document, in the order of the file. titan_text_corpus of //tools/build_defs runs it as a build action.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/data/foreign_texts.h"

namespace titan {
namespace {

constexpr char kUsage[] = R"(usage: text_corpus --out NAME.jsonl [--format F] [--text_field NAME] FILE
  --format F         jsonl, text (one document a file), parquet or arrow; by default as the file's name says, without
                     .gz or .zst, which are decompressed
  --text_field NAME  the key of jsonl's objects, the column of parquet and arrow ("text"))";

constexpr size_t kBlock = 4 << 20;

absl::Status Run(const std::vector<std::string>& arguments) {
  std::string out;
  ForeignTextOptions options;
  std::vector<std::string> files;
  FlagParser flags;
  flags.Path("out", &out);
  flags.Text("format", &options.format);
  flags.Text("text_field", &options.text_field);
  flags.Positional(&files);
  flags.Require({"out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (files.size() != 1) return absl::InvalidArgumentError("one file is wanted");

  TITAN_ASSIGN_OR_RETURN(FileWriter writer, FileWriter::Create(out));
  std::string block;
  const auto add = [&](std::string_view text) -> absl::Status {
    try {
      block += nlohmann::json({{"text", text}}).dump();
    } catch (const nlohmann::json::type_error&) {
      return absl::InvalidArgumentError("not UTF-8");
    }
    block += '\n';
    if (block.size() < kBlock) return absl::OkStatus();
    const absl::Status status = writer.Append(block);
    block.clear();
    return status;
  };
  absl::Status status = ReadForeignTexts(UserPath(files[0]), options, add);
  if (status.ok()) status = writer.Append(block);
  if (status.ok()) status = writer.Close();
  std::error_code ignored;
  if (!status.ok()) std::filesystem::remove(out, ignored);
  return status;
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("text_corpus", titan::kUsage, argc, argv, titan::Run); }
