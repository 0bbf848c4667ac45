"""GraSP: remove the weights without which the norm of the gradient falls least, by the Hessian times the gradient."""

from tests.reference.network import SIZE, Network, keep, record

ABOUT = {
    "paper": "Wang et al., 2020",
    "repository": "alecwangcq/GraSP",
    "commit": "f17d87a",
    "settings": {"density": 0.21},
    "deviations": [
        "Higher scores are kept: they are the authors' times -1. Gradients are means over the batches, where the"
        " authors add those of two halves.",
        "The count is rounded, where the authors truncate that of the removed and keep one weight more.",
        "Weights of linear layers stay, where the authors draw them again before they score.",
    ],
}


def rounds(density: float) -> list[dict]:
    network, temperature = Network(), 200.0
    gradients = [network.gradient(network.weights, batch, temperature) for batch in network.batches]
    mean = {name: sum(g[name] for g in gradients) / len(gradients) for name in network.weights}
    products = [network.hessian_product(network.weights, batch, mean, temperature) for batch in network.batches]
    scores = {name: w * sum(p[name] for p in products) / len(products) for name, w in network.weights.items()}
    return [record(0, keep(scores, round(density * SIZE)), scores)]
