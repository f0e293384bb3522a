"""01 Latent compression."""

from claims import Claim

CLAIMS = [
    Claim(
        name="01.channels_1_and_3_nearly_the_same",
        sentence="one number is nearly a copy of the other",
        cell="c01-059",
        value="float(torch.corrcoef(A[:, :4].T)[1, 3])",
        low=0.7,
    ),
]
