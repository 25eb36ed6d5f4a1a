"""The loss to train with, from sentence-transformers: `build`."""

from typing import TYPE_CHECKING, Any

from pg_semantic.training.encoder import denoising, teacher
from pg_semantic.training.encoder.encoder_training import EncoderTraining

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def build(
    trained: "SentenceTransformer", options: EncoderTraining, *, guide: "SentenceTransformer", mini_batch: int | None
) -> Any:
    """Returns the loss.

    Args:
        trained: The encoder in training.
        options: Which loss.
        guide: The encoder before training, which tells what is too similar to be a negative.
        mini_batch: Encodes up to this many texts at a time, and each twice (GradCache, Gao et al. 2021), which takes
            less memory. None encodes a whole batch at once. Only for the losses ranking and gist.
    """
    from sentence_transformers.sentence_transformer import losses

    if options.loss == "tsdae":
        return denoising.loss(trained)
    if options.loss == "teacher":
        loss = losses.DistillKLDivLoss(trained, similarity_fct=_scaled_cosines)
    elif options.loss == "triplet":
        cosine = losses.TripletDistanceMetric.COSINE
        loss = losses.TripletLoss(trained, distance_metric=cosine, triplet_margin=options.margin)
    elif options.is_scored:
        loss = (losses.CoSENTLoss if options.loss == "cosent" else losses.CosineSimilarityLoss)(trained)
    elif mini_batch is None:
        gist = options.loss == "gist"
        loss = losses.GISTEmbedLoss(trained, guide) if gist else losses.MultipleNegativesRankingLoss(trained)
    elif options.loss == "gist":
        loss = losses.CachedGISTEmbedLoss(trained, guide, mini_batch_size=mini_batch)
    else:
        loss = losses.CachedMultipleNegativesRankingLoss(trained, mini_batch_size=mini_batch)
    with trained.truncate_embeddings(None):
        width = int(trained.get_embedding_dimension())
    used = {min(trained.truncate_dim or width, width), *options.matryoshka}
    return loss if used == {width} else losses.MatryoshkaLoss(trained, loss, sorted(used, reverse=True))


def _scaled_cosines(one: Any, other: Any) -> Any:
    from sentence_transformers import util

    return teacher.SCALE * util.pairwise_cos_sim(one, other)
