"""Parts of OpenVLA and OpenVLA-OFT: the network, its files, pictures, prompts and actions.

Users need :mod:`tgrpo.policies.openvla` and :mod:`tgrpo.policies.openvla_oft`. Facts and equations come from the
official code (github.com/openvla/openvla c8f03f4, github.com/moojink/openvla-oft 213c5ff); no code does.

Shapes, in addition to those of :mod:`tgrpo.types`: ``P`` prompt tokens, ``S`` sequence, ``E`` width of the language
model, ``F`` width of the vision features, ``I`` pictures, 256 patches for each of them.
"""
