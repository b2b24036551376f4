#include "../any_model-inl.h"

template lapidary::Result<std::unique_ptr<lapidary::cli::AnyModel>>
lapidary::cli::OpenModel<lapidary::Gemma3_12B>(const std::filesystem::path&, const ModelOptions&);
