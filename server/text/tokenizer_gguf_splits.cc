#include "server/text/tokenizer_gguf_splits.h"

#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "server/text/tokenizer_strings.h"

namespace ebbinghaus::text {
namespace {

// The expressions are those of the models' own tokenizer.json files. Pieces that no expression
// matches stay pieces.
#define EBB_CONTRACTIONS R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define EBB_SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
// Words in capitals, then in small letters.
#define EBB_UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define EBB_LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define EBB_PREFIX R"([^\r\n\p{L}\p{N}]?)"
#define EBB_CASED_WORDS(END)                                                 \
  EBB_PREFIX EBB_UPPER "*" EBB_LOWER "+" END "|" EBB_PREFIX EBB_UPPER "+" EBB_LOWER "*" END

constexpr std::string_view kGpt2[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};
constexpr std::string_view kDigits[] = {R"(\p{N})", kGpt2[0]};
constexpr std::string_view kDefault[] = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2[0], R"(\p{N}+)",
                                         R"([0-9][0-9][0-9])"};
constexpr std::string_view kFalcon[] = {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2[0],
                                        R"([0-9][0-9][0-9])"};
constexpr std::string_view kLlama3[] = {
    EBB_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" EBB_SPACES};
constexpr std::string_view kQwen2[] = {
    EBB_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" EBB_SPACES};
constexpr std::string_view kQwen35[] = {
    EBB_CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" EBB_SPACES};
constexpr std::string_view kTekken[] = {
    EBB_CASED_WORDS("") R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" EBB_SPACES};
constexpr std::string_view kGpt4o[] = {
    EBB_CASED_WORDS(EBB_CONTRACTIONS "?")
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" EBB_SPACES};
constexpr std::string_view kTinyAya[] = {R"(\d{1,3}(?=(?:\d{3})*\b))", kGpt4o[0]};
constexpr std::string_view kSeedCoder[] = {
    EBB_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|)" EBB_SPACES};
constexpr std::string_view kBailing[] = {
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr std::string_view kUfakzeka[] = {
    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" EBB_SPACES};
constexpr std::string_view kExaoneMoe[] = {
    EBB_CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|)"
    R"(\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr std::string_view kLaguna[] = {R"([^\n]+|[\n]+)", kQwen2[0]};
constexpr std::string_view kMiniCpm5[] = {
    R"(\p{N}{1,3})",
    EBB_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|)" EBB_SPACES};
constexpr std::string_view kJais2[] = {
    EBB_CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
    R"(\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|)"
    R"(\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})"};
constexpr std::string_view kBloom[] = {" ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"};
constexpr std::string_view kViking[] = {kBloom[0], R"(\p{N})"};
constexpr std::string_view kSuperBpe[] = {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"};

// DeepSeek's.
constexpr std::string_view kHanAndKana = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
#define EBB_DEEPSEEK_WORDS                                      \
  R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)" \
  R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
constexpr std::string_view kDeepSeek3[] = {
    R"(\p{N}{1,3})", kHanAndKana, EBB_DEEPSEEK_WORDS R"( ?[\p{P}\p{S}]+[\r\n]*|)" EBB_SPACES};
constexpr std::string_view kSpark[] = {
    R"(\p{N}{1,3})", kHanAndKana,
    EBB_DEEPSEEK_WORDS R"( ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)", R"(\p{N})"};
constexpr std::string_view kDeepSeekCoder[] = {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                                               "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
                                               R"(\p{N})"};
constexpr std::string_view kDeepSeekLlm[] = {
    "[\r\n]",
    // The cased letters of Unicode 13.
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-"
    "\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-"
    "\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"
    "\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d"
    "\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    R"(\s+$)",
    "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
    R"(\p{N}+)"};
constexpr std::string_view kYoutu[] = {
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c"
    "\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    EBB_CASED_WORDS(EBB_CONTRACTIONS "?")
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" EBB_SPACES};
constexpr std::string_view kChameleon[] = {R"(<sentinel:[0-9]+>)",
                                           R"((IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z)",
                                           R"(([\t\n]|    |  ))",
                                           R"(\p{N})",
                                           R"([\p{P}!-/:-@\[-`{-~])",
                                           kGpt2[0]};
constexpr std::string_view kLines[] = {R"([^\n]+|[\n]+)"};

struct Flags {
  bool nfc = false, ignore_merges = false, add_bos = false, spelled_in_utf8 = false;
};

template <size_t N>
constexpr NamedSplit Named(std::string_view name, const std::string_view (&patterns)[N],
                           Flags flags = {}) {
  return {name,          patterns,      N, flags.nfc, flags.ignore_merges,
          flags.add_bos, flags.spelled_in_utf8};
}

constexpr Flags kLikeLlama3 = {.ignore_merges = true, .add_bos = true};
constexpr NamedSplit kSplits[] = {
    Named("default", kDefault),
    Named("gpt-2", kGpt2),
    Named("phi-2", kGpt2),
    Named("mpt", kGpt2),
    Named("olmo", kGpt2),
    Named("jais", kGpt2),
    Named("trillion", kGpt2),
    Named("granite-docling", kGpt2),
    Named("gigachat", kGpt2),
    Named("a.x-4.0", kGpt2),
    Named("mellum", kGpt2),
    Named("modern-bert", kGpt2),
    Named("exaone4", kGpt2),
    Named("jina-es", kGpt2),
    Named("jina-de", kGpt2),
    Named("jina-v2-es", kGpt2),
    Named("jina-v2-de", kGpt2),
    Named("jina-v1-en", kGpt2),
    Named("jina-v2-code", kGpt2),
    Named("roberta-bpe", kGpt2),
    Named("smollm", kDigits),
    Named("starcoder", kDigits),
    Named("refact", kDigits),
    Named("command-r", kDigits),
    Named("codeshell", kDigits),
    Named("exaone", kDigits),
    Named("minerva-7b", kDigits),
    Named("mellum2", kDigits),
    Named("falcon", kFalcon),
    Named("llama-bpe", kLlama3, kLikeLlama3),
    Named("llama3", kLlama3, kLikeLlama3),
    Named("llama-v3", kLlama3, kLikeLlama3),
    Named("falcon3", kLlama3, kLikeLlama3),
    Named("falcon-h1", kLlama3, kLikeLlama3),
    Named("pixtral", kLlama3, kLikeLlama3),
    Named("midm-2.0", kLlama3, kLikeLlama3),
    Named("lfm2", kLlama3, kLikeLlama3),
    Named("jina-v5-nano", kLlama3, kLikeLlama3),
    Named("dbrx", kLlama3),
    Named("smaug-bpe", kLlama3),
    Named("chatglm-bpe", kLlama3),
    Named("glm4", kLlama3, {.ignore_merges = true}),
    Named("glm5", kLlama3, {.ignore_merges = true}),
    Named("qwen2", kQwen2, {.nfc = true}),
    Named("deepseek-r1-qwen", kQwen2, {.nfc = true}),
    Named("kormo", kQwen2),
    Named("f2llmv2", kQwen2),
    Named("megrez", kQwen2),
    Named("stablelm2", kQwen2),
    Named("hunyuan", kQwen2),
    Named("solar-open", kQwen2),
    Named("grok-2", kQwen2),
    Named("qwen35", kQwen35),
    Named("tekken", kTekken, kLikeLlama3),
    Named("gpt-4o", kGpt4o),
    Named("llama4", kGpt4o),
    Named("kanana2", kGpt4o),
    Named("talkie", kGpt4o),
    Named("minimax-m2", kGpt4o),
    Named("tiny_aya", kTinyAya),
    Named("cohere2moe", kTinyAya),
    Named("deepseek-llm", kDeepSeekLlm),
    Named("deepseek-coder", kDeepSeekCoder),
    Named("deepseek-v3", kDeepSeek3),
    Named("hunyuan-dense", kDeepSeek3),
    Named("hy_v4", kDeepSeek3),
    Named("joyai-llm", kDeepSeek3),
    Named("spark2_5", kSpark),
    Named("seed-coder", kSeedCoder),
    Named("bailingmoe", kBailing),
    Named("bailingmoe2", kBailing),
    Named("llada-moe", kBailing),
    Named("ufakzeka", kUfakzeka),
    Named("exaone-moe", kExaoneMoe),
    Named("laguna", kLaguna),
    Named("minicpm5", kMiniCpm5, {.ignore_merges = true}),
    Named("jais-2", kJais2),
    Named("bloom", kBloom),
    Named("poro-chat", kBloom),
    Named("gpt3-finnish", kBloom),
    Named("viking", kViking),
    Named("superbpe", kSuperBpe),
    Named("youtu", kYoutu, {.ignore_merges = true}),
    Named("chameleon", kChameleon, {.add_bos = true}),
    Named("gemma4", kLines, {.add_bos = true, .spelled_in_utf8 = true}),
    Named("sarvam-moe", kLines, {.spelled_in_utf8 = true}),
};

}  // namespace

absl::StatusOr<NamedSplit> FindNamedSplit(std::string_view name) {
  std::string known;
  for (const NamedSplit& split : kSplits) {
    if (split.name == name) return split;
    known += Concat({known.empty() ? "" : ", ", split.name});
  }
  return absl::InvalidArgumentError(
      Concat({"tokenizer.ggml.pre: ", Quoted(name), " is not supported; supported are ", known}));
}

std::vector<PreTokenizerStep> StepsOf(const NamedSplit& split) {
  std::vector<PreTokenizerStep> steps;
  for (size_t i = 0; i < split.pattern_count; ++i) {
    steps.emplace_back(SplitStep{*Regex::Compile(split.patterns[i])});
  }
  return steps;
}

}  // namespace ebbinghaus::text
