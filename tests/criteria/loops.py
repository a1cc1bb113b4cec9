"""Every objective as plain loops over samples, pairs and triplets: slow and readable.

Each follows the formula of its paper. Arguments: rows x [B][D] (a tensor, so that autograd gives
the gradient), labels y, then the hyper-parameters; triplets where the objective is mined, class
weights w where it has them. Each returns a scalar tensor.
"""

import math

import torch


def dot(a, b):
    return (a * b).sum()


def unit(a):
    return a / dot(a, a).sqrt()


def euclidean(a, b, eps=0.0):
    return dot(a - b + eps, a - b + eps).sqrt()


def hinge(value):
    return value if value > 0 else value * 0


def mean(values):
    return sum(values) / len(values)


def positives(y, i):
    return [j for j in range(len(y)) if j != i and y[j] == y[i]]


def negatives(y, i):
    return [j for j in range(len(y)) if y[j] != y[i]]


def log1p_sum_exp(values):
    return (
        torch.log1p(sum(torch.exp(value) for value in values))
        if values
        else torch.zeros((), dtype=torch.float64)
    )


def contrastive(x, y, triplets, pos_margin=0, neg_margin=1, form="paper"):
    eps = 1e-6 if form == "paper" else 0.0
    far = [hinge(euclidean(x[a], x[p], eps) - pos_margin) for a, p, n in triplets]
    near = [hinge(neg_margin - euclidean(x[a], x[n], eps)) for a, p, n in triplets]
    if form == "textbook":
        far, near = [f * f / 2 for f in far], [f * f / 2 for f in near]
    return mean(far) + mean(near)


def triplet(x, y, triplets, margin=0.2, form="paper"):
    power = 1 if form == "euclidean" else 2
    return mean(
        [
            hinge(euclidean(x[a], x[p]) ** power - euclidean(x[a], x[n]) ** power + margin)
            for a, p, n in triplets
        ]
    )


def margin(x, y, triplets, beta, margin=0.2, nu=0.0, form="paper"):
    total, in_triplets, in_pairs = 0.0, 0, 0
    for a, p, n in triplets:
        far = hinge(torch.sqrt(dot(x[a] - x[p], x[a] - x[p]) + 1e-8) - beta[y[a]] + margin)
        near = hinge(beta[y[a]] - torch.sqrt(dot(x[a] - x[n], x[a] - x[n]) + 1e-8) + margin)
        total = total + far + near + nu * beta[y[a]]
        in_triplets += bool(far > 0 or near > 0)
        in_pairs += int(far > 0) + int(near > 0)
    return total / max(1, in_triplets if form == "paper" else in_pairs)


def multisimilarity(
    x,
    y,
    pos_weight=2,
    neg_weight=40,
    margin=0.1,
    pos_thresh=0.5,
    neg_thresh=0.5,
    dim=0,
    form="paper",
    anchors=None,
):
    pulls, pushes = [], []
    for i in range(anchors or len(y)):
        near = [dot(x[i], x[j]) for j in positives(y, i)]
        far = [dot(x[i], x[j]) for j in negatives(y, i)]
        hard_near = [s for s in near if far and s - margin < max(far)]
        hard_far = [s for s in far if near and s + margin > min(near)]
        pulls.append(log1p_sum_exp([-pos_weight * (s - pos_thresh) for s in hard_near]))
        pushes.append(log1p_sum_exp([neg_weight * (s - neg_thresh) for s in hard_far]))
    pull, push = mean(pulls), mean(pushes)
    if form == "paper":
        pull, push = torch.log(1 + torch.exp(pull)), torch.log(1 + torch.exp(push))
    return pull / pos_weight + push / neg_weight


def npair(x, y, triplets, l2=0.005, scale=1, form="paper"):
    x = [row * scale for row in x] if form == "paper" else x
    pairs = sorted({(a, p) for a, p, n in triplets})
    terms = [
        log1p_sum_exp([dot(x[a], x[n]) - dot(x[a], x[p]) for b, _, n in triplets if b == a])
        for a, p in pairs
    ]
    if form == "paper":
        norm = mean([dot(row, row).sqrt() for row in x])
    elif form == "textbook":
        norm = mean([dot(row, row) for row in x])
    else:
        norm = mean([dot(x[i], x[i]) for pair in pairs for i in pair])
    return mean(terms) + l2 * norm


def angular(x, y, triplets, alpha=45, npair_ang_weight=2, npair_l2=0.005):
    tangent = math.tan(math.radians(alpha)) ** 2
    pairs = sorted({(a, p) for a, p, n in triplets})
    terms = []
    for a, p in pairs:
        f = [
            4 * tangent * dot(unit(x[a]) + unit(x[p]), unit(x[n]))
            - 2 * (1 + tangent) * dot(unit(x[a]), unit(x[p]))
            for b, _, n in triplets
            if b == a
        ]
        terms.append(log1p_sum_exp(f))
    return npair(x, y, triplets, l2=npair_l2) + npair_ang_weight * mean(terms)


def lifted(x, y, triplets, neg_margin=1, l2=0.005, form="paper"):
    terms = []
    near, far = sorted({(a, p) for a, p, n in triplets}), sorted({(a, n) for a, p, n in triplets})
    spread = {
        a: sum(torch.exp(neg_margin - euclidean(x[a], x[n])) for b, n in far if b == a)
        for a, _ in near
    }
    if form == "paper":
        for a in spread:
            pulled = sum(torch.exp(euclidean(x[a], x[p])) for b, p in near if b == a)
            terms.append(hinge(torch.log(pulled) + torch.log(spread[a])))
        lifted_term = mean(terms)
    else:
        lifted_term = (
            mean(
                [
                    hinge(torch.log(spread[a] + spread[p]) + euclidean(x[a], x[p])) ** 2
                    for a, p in near
                ]
            )
            / 2
        )
    return lifted_term + l2 * mean([dot(row, row).sqrt() for row in x])


def cross_entropy(logits, target):
    return torch.log(sum(torch.exp(logit) for logit in logits)) - logits[target]


def softmax(x, y, w, temperature=0.05, form="paper"):
    rows = x if form == "paper" else [unit(row) for row in x]
    return mean(
        [
            cross_entropy([dot(row, unit(c)) / temperature for c in w], y[i])
            for i, row in enumerate(rows)
        ]
    )


def arcface(x, y, w, angular_margin=0.5, feature_scale=16, form="paper"):
    terms = []
    for i, row in enumerate(x):
        cosines = [dot(unit(row) if form == "textbook_normalised" else row, unit(c)) for c in w]
        if form == "paper":
            cosines = [cosine.clamp(1e-10, 1 - 1e-10) for cosine in cosines]
        cosines[y[i]] = torch.cos(torch.acos(cosines[y[i]]) + angular_margin)
        terms.append(cross_entropy([feature_scale * cosine for cosine in cosines], y[i]))
    return mean(terms)


def proxy_similarities(x, w):
    return [[dot(unit(row), unit(c)) for c in w] for row in x]


def oproxy(
    x, y, w, mode="anchor", pos_alpha=32, neg_alpha=32, pos_delta=0.1, neg_delta=-0.1, form="paper"
):
    s = proxy_similarities(x, w)
    if mode == "nca":
        if form == "textbook":
            return proxynca(x, y, w)
        counted = [
            log1p_sum_exp([-pos_alpha * (s[i][y[i]] - pos_delta)] * (1 + len(positives(y, i))))
            for i in range(len(y))
        ]
        others = [
            log1p_sum_exp([neg_alpha * (s[i][c] - neg_delta) for c in range(len(w)) if c != y[i]])
            for i in range(len(y))
        ]
        return mean(counted) + mean(others)
    pull = {
        c: log1p_sum_exp([-pos_alpha * (s[i][c] - pos_delta) for i in range(len(y)) if y[i] == c])
        for c in set(y)
    }
    push = [
        log1p_sum_exp([neg_alpha * (s[i][c] - neg_delta) for i in range(len(y)) if y[i] != c])
        for c in range(len(w))
    ]
    return (mean([pull[c] for c in y]) if form == "paper" else mean(list(pull.values()))) + mean(
        push
    )


def proxyanchor(x, y, w, alpha=32, margin=0.1):
    return oproxy(x, y, w, "anchor", alpha, alpha, margin, -margin, "textbook")


def proxynca(x, y, w, temperature=1 / 9, form="textbook"):
    squared = [[dot(unit(row) - unit(c), unit(row) - unit(c)) for c in w] for row in x]
    if form == "plusplus":
        return mean(
            [cross_entropy([-d / temperature for d in squared[i]], y[i]) for i in range(len(y))]
        )
    return mean(
        [
            squared[i][y[i]]
            + torch.log(sum(torch.exp(-d) for c, d in enumerate(squared[i]) if c != y[i]))
            for i in range(len(y))
        ]
    )


def softtriplet(x, y, w, margin_delta=0.01, gamma=0.1, scale=8, reg_weight=0.2):
    terms = []
    for i, row in enumerate(x):
        relaxed = []
        for centres in w:
            s = [dot(unit(row), unit(centre)) for centre in centres]
            weights = [torch.exp(value / gamma) for value in s]
            relaxed.append(sum(weight / sum(weights) * value for weight, value in zip(weights, s)))
        terms.append(
            cross_entropy(
                [scale * (value - margin_delta * (c == y[i])) for c, value in enumerate(relaxed)],
                y[i],
            )
        )
    n_centres = len(w[0])
    between = [
        euclidean(unit(centres[s]), unit(centres[t]))
        for centres in w
        for s in range(n_centres)
        for t in range(s)
    ]
    return mean(terms) + reg_weight * sum(between) / (len(w) * n_centres * (n_centres - 1))


def histogram(x, y, nbins=65):
    step = 2 / (nbins - 1)
    same, different = (
        [torch.zeros((), dtype=torch.float64)] * nbins,
        [torch.zeros((), dtype=torch.float64)] * nbins,
    )
    count = {True: 0, False: 0}
    for i in range(len(y)):
        for j in range(i):
            s, bins = dot(unit(x[i]), unit(x[j])), same if y[i] == y[j] else different
            count[y[i] == y[j]] += 1
            for r in range(nbins):
                bins[r] = bins[r] + hinge(1 - abs(s - (r * step - 1)) / step)
    return sum(different[r] / count[False] * sum(same[: r + 1]) / count[True] for r in range(nbins))


def snr(x, y, triplets, margin=0.2, reg_lambda=0.005):
    def ratio(a, b):
        return ((a - b - (a - b).mean()) ** 2).mean() / ((a - a.mean()) ** 2).mean()

    active = [
        h
        for a, p, n in triplets
        if (h := hinge(ratio(x[a], x[p]) - ratio(x[a], x[n]) + margin)) > 0
    ]
    return (mean(active) if active else 0) + reg_lambda * mean(
        [abs(x[a].sum()) for a, _, _ in triplets]
    )


def quadruplet(x, y, quadruplets, margin_alpha_1=0.2, margin_alpha_2=0.2):
    """Over (a, p, n, m); m is None where there is no third class."""
    first = [
        hinge(euclidean(x[a], x[p]) ** 2 - euclidean(x[a], x[n]) ** 2 + margin_alpha_1)
        for a, p, n, _ in quadruplets
    ]
    second = [
        hinge(euclidean(x[a], x[p]) ** 2 - euclidean(x[n], x[m]) ** 2 + margin_alpha_2)
        for a, p, n, m in quadruplets
        if m is not None
    ]
    return mean(first) + (mean(second) if second else 0)


def supcon(x, y, temperature=0.1, anchors=None):
    terms = []
    for i in range(anchors or len(y)):
        if positives(y, i):
            s = {j: dot(unit(x[i]), unit(x[j])) / temperature for j in range(len(y)) if j != i}
            terms.append(
                mean([cross_entropy(list(s.values()), list(s).index(p)) for p in positives(y, i)])
            )
    return mean(terms)


def circle(x, y, m=0.4, gamma=80, anchors=None):
    terms = []
    for i in range(anchors or len(y)):
        near, far = (
            [dot(unit(x[i]), unit(x[j])) for j in positives(y, i)],
            [dot(unit(x[i]), unit(x[j])) for j in negatives(y, i)],
        )
        if near and far:
            push = sum(torch.exp(gamma * hinge(s.detach() + m) * (s - m)) for s in far)
            pull = sum(torch.exp(-gamma * hinge(1 + m - s.detach()) * (s - (1 - m))) for s in near)
            terms.append(torch.log(1 + push * pull))
    return mean(terms)


def smooth_rank(s, query, match, among, temperature):
    """How many of `among` stand above the match, smoothly."""
    return sum(
        1 / (1 + torch.exp(-(s[query][j] - s[query][match]) / temperature))
        for j in among
        if j not in (query, match)
    )


def smooth_ap(x, y, temperature=0.01):
    s, precisions = [[dot(unit(a), unit(b)) for b in x] for a in x], []
    for q in range(len(y)):
        if positives(y, q):
            precisions.append(
                mean(
                    [
                        (1 + smooth_rank(s, q, p, positives(y, q), temperature))
                        / (1 + smooth_rank(s, q, p, range(len(y)), temperature))
                        for p in positives(y, q)
                    ]
                )
            )
    return 1 - mean(precisions)


def recall_at_k(x, y, k=(1, 2, 4, 8, 16), rank_temperature=1, similarity_temperature=0.01):
    s, recalls = [[dot(unit(a), unit(b)) for b in x] for a in x], []
    for q in range(len(y)):
        for limit in k if positives(y, q) else ():
            ranks = [
                1 + smooth_rank(s, q, p, range(len(y)), similarity_temperature)
                for p in positives(y, q)
            ]
            recalls.append(
                mean([1 / (1 + torch.exp(-(limit - rank) / rank_temperature)) for rank in ranks])
            )
    return 1 - mean(recalls)


def similarity_kl(teacher, student, temperature):
    """temperature^2 times the mean over rows of KL(teacher || student).

    Both are the softmax of a row of similarities.
    """
    total = 0
    for i in range(len(student)):
        t = torch.stack([dot(teacher[i], row).detach() for row in teacher]) / temperature
        s = torch.stack([dot(student[i], row) for row in student]) / temperature
        log_p, log_q = t - torch.log(torch.exp(t).sum()), s - torch.log(torch.exp(s).sum())
        total = total + (torch.exp(log_p) * (log_p - log_q)).sum()
    return temperature**2 * total / len(student)


def s2sd(x, y, features, branches, source, targets, T=1, w=0, feat_w=0):
    """`branches` maps a feature vector to a target embedding each.

    Source and targets are loops of their objectives.
    """
    student = [unit(row) for row in x]
    teachers = [[unit(branch(row)) for row in features] for branch in branches]
    loss = (
        source(student, y)
        + mean([target(teacher, y) for target, teacher in zip(targets, teachers)])
    ) / 2
    return (
        loss
        + w * mean([similarity_kl(teacher, student, T) for teacher in teachers])
        + feat_w * similarity_kl([unit(row) for row in features], student, T)
    )


def adversarial_separation(x, y, features, heads, regressors, source, targets, weight=1500):
    """Its value; the reversed gradients are compared part by part."""
    main = [unit(row) for row in x]
    loss, auxiliary = source(main, y), [[unit(head(row)) for row in features] for head in heads]
    loss = loss + mean([target(rows, y) for target, rows in zip(targets, auxiliary)])
    for rows, regressor in zip(auxiliary, regressors):
        loss = loss - weight * mean(
            [mean(list((a * unit(regressor(g))) ** 2)) for a, g in zip(main, rows)]
        )
    return loss
