import pytest
import torch


@pytest.fixture(autouse=True)
def _double(float64):
    """Peers compute in float64, as we do beside them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def widened(monkeypatch):
    """So do the schedulers of diffusers, which turn what they are given to float32."""
    monkeypatch.setattr(torch, "float32", torch.float64)
