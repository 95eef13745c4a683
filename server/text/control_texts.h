// Tokens that end a turn or steer a chat, known by their texts.
#pragma once

#include <string_view>

namespace ebbinghaus::text {

// Ends a text or a turn in the models that have such a token, whatever type a file gives it.
bool IsEndOfTurn(std::string_view token);
// The same, but plain text may spell it too: only where the file calls the token a control token.
bool IsEndOfTurnIfControl(std::string_view token);
// Looks like nothing but a control token: <|name|>.
bool LooksLikeControl(std::string_view token);

}  // namespace ebbinghaus::text
