// Guesses how a text goes on, so that several of its tokens are computed in one step.
//
// A step of a few tokens takes hardly longer than a step of one while both wait for the weights. So
// tokens that are likely to come are computed along with the one that is certain (Session::Append),
// and those that then come are there already. Tokens are chosen as they would be without guesses,
// from the same logits and with the same random numbers: the text is the same, greedy or drawn.
#ifndef LAPIDARY_GENERATE_SPECULATION_H_
#define LAPIDARY_GENERATE_SPECULATION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/generate/options.h"

namespace lapidary {

// A GuessCallback that asks another model with the same vocabulary for its most likely tokens.
// Session is Session<M> or EngineSession; what it holds becomes the text so far.
template <class Session>
GuessCallback DraftOf(std::shared_ptr<Session> draft) {
  return [draft](std::span<const std::int32_t> ids, std::size_t most) {
    std::vector<std::int32_t> guesses;
    if (!draft->PrefillReusing(ids)) return guesses;
    while (guesses.size() < most) {
      const auto best = draft->Best(1);
      if (best.empty()) break;
      guesses.push_back(best[0].id);
      if (guesses.size() < most && !draft->Append(guesses.back())) break;
    }
    return guesses;
  };
}

// Decides when to guess and how many tokens, by what guessing has brought so far.
//
// A round is a step and the tokens that it yields: one, and the guesses that come true. It saves,
// or costs, the difference between its time and that of as many rounds without guesses. Guessing
// goes on while its losses stay below two such rounds and a hundredth of the time so far: a text of
// 200 tokens in which no guess comes true takes 2 to 3 % longer.
class Speculation {
 public:
  explicit Speculation(GuessCallback guess) : guess_(std::move(guess)) {}

  // The earlier guess for this token came true.
  void CameTrue() { ++came_true_; }

  // Guesses for the step of the next token, at most `useful`; `ids` are all tokens, this one
  // included. `seconds` since the generation began.
  std::vector<std::int32_t> NextRound(std::span<const std::int32_t> ids, double seconds,
                                      std::size_t useful) {
    if (!guess_) return {};
    if (began_ >= 0) EndRound(seconds);
    began_ = seconds;
    guessed_ = came_true_ = 0;
    const std::size_t most = std::min(most_, useful);
    if (most == 0 || one_ == 0 || saved_ < -(2 * one_ + 0.01 * seconds)) return {};
    std::vector<std::int32_t> guesses = guess_(ids, most);
    guesses.resize(std::min(guesses.size(), most));
    guessed_ = guesses.size();
    return guesses;
  }

  // Of all rounds.
  std::size_t guesses() const { return all_guessed_ + guessed_; }
  std::size_t guesses_true() const { return all_came_true_ + came_true_; }

 private:
  // With the token that is certain, 4, 8 or 12 rows of activations: whole register tiles. 16 rows
  // take as long for a row as 12 do (`lapidary bench --sessions`, 270M, Zen 5), and more of them
  // are in vain.
  static constexpr std::size_t kFewest = 3, kMost = 11;

  void EndRound(double seconds) {
    const double took = seconds - began_;
    all_guessed_ += guessed_;
    all_came_true_ += came_true_;
    if (guessed_ == 0) {
      one_ = one_ == 0 ? took : 0.8 * one_ + 0.2 * took;
      return;
    }
    // What was saved long ago is no reason to go on losing.
    constexpr double kCredit = 8;
    saved_ += static_cast<double>(1 + came_true_) * one_ - took;
    saved_ = std::min(saved_, kCredit * one_);
    if (came_true_ == guessed_ && guessed_ == most_) {
      most_ = std::min(2 * most_ + 1, kMost);
    } else if (2 * came_true_ < guessed_) {
      most_ = std::max(most_ / 2, kFewest);
    }
  }

  GuessCallback guess_;
  std::size_t most_ = kFewest;                       // guesses of a round
  std::size_t guessed_ = 0, came_true_ = 0;          // in this round
  std::size_t all_guessed_ = 0, all_came_true_ = 0;  // in the rounds before
  double began_ = -1;                                // this round, in seconds; below 0: none yet
  double one_ = 0;    // seconds of a round without guesses; 0: not known
  double saved_ = 0;  // seconds
};

}  // namespace lapidary

#endif  // LAPIDARY_GENERATE_SPECULATION_H_
