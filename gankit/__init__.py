"""gankit: the code of *The Mathematics of GANs*, as pure functions on tensors and a few small frozen dataclasses.

Conventions, kept by every module: P is the law of the data and Q the model's; ``real`` comes before ``fake`` and ``p``
before ``q``; critics return unbounded scores; losses are what each player minimizes; images are float tensors
(N, C, H, W) in [-1, 1]; ``torch.manual_seed`` or one ``torch.Generator`` is the only source of randomness.

Import from the modules, ``from gankit.losses import NON_SATURATING``; there are no shortcuts here.
"""
